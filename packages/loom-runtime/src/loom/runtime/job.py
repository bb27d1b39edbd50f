"""A request inside a host: the message, and whoever is to hear of its end."""

from __future__ import annotations

import asyncio

from ..ports import Delivery
from .messages import Message, Reply

__all__ = ["Job"]


class Job:
    """One request on its way through a host: from a caller in this process (``future``) or from a queue (``delivery``).

    With neither, nobody waits: work that recovery has found. ``caller`` is the run that waits, if it is one of here.
    """

    __slots__ = ("caller", "delivery", "future", "message", "redirects")

    def __init__(
        self, message: Message, *, future: asyncio.Future[Reply] | None = None, delivery: Delivery | None = None,
        caller: str = "",
    ) -> None:  # fmt: skip
        self.message = message
        self.future = future
        self.delivery = delivery
        self.caller = caller
        self.redirects = 0

    @property
    def recovered(self) -> bool:
        """Whether recovery has found the work, and nobody has asked for it."""
        return self.future is None and self.delivery is None
