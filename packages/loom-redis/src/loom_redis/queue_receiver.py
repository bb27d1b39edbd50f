"""Receiving: leases at once what there is, else waits to be handed something."""

from __future__ import annotations

import asyncio
import struct

from loom.clock import Clock
from loom.errors import StoreUnavailableError
from loom.ports import Delivery

from .channel import Argument
from .client import Redis
from .queue_records import deliveries_of
from .queue_scripts import RECEIVE, RELEASE, QueueScripts, Wanted
from .queue_waiters import Waiters

__all__ = ["Receiver"]

_LONGEST_WAIT = 1800.0
_WAITERS_LIFE = 3600
_UNTIL = struct.Struct(">d")


class Receiver:
    """The receives of one adapter."""

    def __init__(self, redis: Redis, scripts: QueueScripts, clock: Clock) -> None:
        self._scripts = scripts
        self._clock = clock
        self._waiters = Waiters(redis, scripts.prefix, clock)
        self._turns = 0
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let those who wait go, with nothing, and listen no more."""
        await self._waiters.dismiss()
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._waiters.close()

    async def receive(self, receive: bytes, wanted: Wanted, limit: int, lease: float, wait: float) -> list[Delivery]:
        """Receive from the queues of one unit. ``receive`` is by what scripts know this call."""
        try:
            return await self._receive(receive, wanted, limit, lease, wait)
        except asyncio.CancelledError:
            # What a script has leased or leases yet for this receive, nobody would ever ack.
            leaving = asyncio.ensure_future(self._leave(receive, wanted, lease))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            await asyncio.shield(leaving)
            raise
        finally:
            self._waiters.forget(receive)

    async def _receive(self, receive: bytes, wanted: Wanted, limit: int, lease: float, wait: float) -> list[Delivery]:
        clock, unit = self._clock, self._scripts.unit(wanted)
        deadline, again = clock.monotonic() + wait if wait > 0 else 0.0, False
        start = wanted.names[self._turns % len(wanted.names)]
        arguments: list[Argument] = [
            receive, limit, repr(lease), wanted.text, len(wanted.names), start, b"", b"", b"", _WAITERS_LIFE,
        ]  # fmt: skip
        while True:
            left = min(deadline - clock.monotonic(), _LONGEST_WAIT) if wait > 0 else 0.0
            future = None
            if left > 0:
                await self._waiters.open()
                future = self._waiters.expect(receive)
                arguments[6:9] = repr(left + 1.0), self._waiters.client, wanted.digest
            else:
                arguments[6] = b""
            first, text = await self._scripts.run(RECEIVE, unit, arguments, lambda: arguments, repeated=again)
            if text:
                found = deliveries_of(text, float(first), receive, self._scripts.names)
                if len(wanted.names) > 1:
                    # The next receive begins behind those that were served; it passes over none that was not.
                    self._turns += len({delivery.queue for delivery in found})
                return found
            if future is None:
                return []
            seconds = min(left, float(first) + 0.001) if first else left
            handed = await self._waiters.wait(future, seconds)
            if self._waiters.dismissed:
                await self._leave(receive, wanted, lease)
                return []
            if handed:
                return deliveries_of(handed[_UNTIL.size :], _UNTIL.unpack_from(handed)[0], receive, self._scripts.names)
            again = handed is None

    async def _leave(self, receive: bytes, wanted: Wanted, lease: float) -> None:
        try:
            await self._scripts.run(RELEASE, self._scripts.unit(wanted), [receive, repr(lease), wanted.field])
        except StoreUnavailableError:
            pass  # then the leases end by themselves
