"""A request inside a host: the message, and whoever is to hear of its end."""

from __future__ import annotations

import asyncio

from ..ports import Delivery
from .messages import Message, Reply

__all__ = ["Job"]


class Job:
    """One request on its way through a host: from a caller in this process (``future``) or from a queue (``delivery``).

    With neither, nobody waits: work that recovery has found.
    """

    __slots__ = ("delivery", "future", "message", "redirects")

    def __init__(
        self, message: Message, *, future: asyncio.Future[Reply] | None = None, delivery: Delivery | None = None
    ) -> None:
        self.message = message
        self.future = future
        self.delivery = delivery
        self.redirects = 0
