"""What a turn has asked for and what becomes true with its commit: messages, reminders."""

from __future__ import annotations

from .entries import Reminder
from .messages import Message

__all__ = ["Effects"]


class Effects:
    """Collected while a handler runs; dropped when it fails."""

    __slots__ = ("forgotten", "outgoing", "reminders")

    def __init__(self) -> None:
        self.outgoing: list[Message] = []
        self.reminders: list[Reminder] = []
        self.forgotten: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.outgoing or self.reminders or self.forgotten)
