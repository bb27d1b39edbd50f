"""How replies come back to a process: straight, where the queue has a direct way, else through a queue of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..clock import Clock
from ..ports import Delivery, MessageQueue
from .background import Background
from .messages import direct_address, reply_queue

__all__ = ["Replies"]

_log = logging.getLogger("loom.replies")
_DROP_AFTER = 0.05


class Replies:
    """Listens for replies, from the first request that leaves this process on, and hands each to ``hear``.

    ``missed`` is called when replies may have been lost on the way: then what still waits has to be asked again.
    """

    def __init__(
        self, queue: MessageQueue, clock: Clock, background: Background, member: str, hear: Callable[[bytes], None],
        missed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._queue = queue
        self._direct = queue.direct()
        self._clock = clock
        self._background = background
        self._hear = hear
        self._missed = missed
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._read: list[Delivery] = []
        self.address = reply_queue(member) if self._direct is None else direct_address(member)
        self.open = False

    async def listen(self) -> None:
        """Return when no reply to what is sent from now on can be missed unnoticed. Raises StoreUnavailableError."""
        while not self.open:
            if self._opening is None:
                self._opening = self._background.spawn(self._open(), "loom replies")
            opening = self._opening
            try:
                await asyncio.shield(opening)
            finally:
                if opening.done() and self._opening is opening:
                    self._opening = None

    async def close(self) -> None:
        """Listen no more, and drop what was read."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await self._drop()

    async def _open(self) -> None:
        if self._direct is not None:
            await self._direct.listen(self.address, self._hear, self._missed)
        else:
            self._reader = self._background.spawn(self._receive(), "loom replies")
        self.open = True

    async def _receive(self) -> None:
        pause = 0.05
        while True:
            try:
                deliveries = await self._queue.receive([self.address], limit=500, lease=10.0, wait=5.0)
                for delivery in deliveries:
                    self._hear(delivery.body)
                self._drop_later(deliveries)
                pause = 0.05
            except Exception as error:
                _log.warning("loom: replies can't be read: %s", error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _drop_later(self, deliveries: list[Delivery]) -> None:
        """Replies that were read leave the queue later and together: nobody waits for it, and one left is nobody's."""
        if deliveries and not self._read:
            self._background.spawn(self._drop_after(_DROP_AFTER), "loom replies read")
        self._read += deliveries

    async def _drop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._drop()

    async def _drop(self) -> None:
        read, self._read = self._read, []
        if read:
            try:
                await self._queue.ack(read)
            except Exception as error:
                _log.warning("loom: %d replies can't be dropped and come again: %s", len(read), error)
