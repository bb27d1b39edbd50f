"""Waiting without polling: for a future or a moment, and in line."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from ..clock import Clock

__all__ = ["WaitingLines", "wait_for_either"]

_LONGEST_SLEEP = 3600.0
"""Stored moments are wall time, sleeps are monotonic: after a jump of the wall clock nobody sleeps longer than this."""


async def wait_for_either(clock: Clock, event: Awaitable[object], seconds: float) -> bool:
    """Return when ``event`` is done (True) or ``seconds`` of ``clock`` have passed; the other is cancelled."""
    waiter = asyncio.ensure_future(event)
    timer = asyncio.ensure_future(clock.sleep(min(max(0.0, seconds), _LONGEST_SLEEP)))
    try:
        await asyncio.wait((waiter, timer), return_when=asyncio.FIRST_COMPLETED)
        return waiter.done()
    finally:
        for task in (waiter, timer):
            task.cancel()


class WaitingLines:
    """Lines of waiters by name: one at a time is in front, in the order in which they came."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    def waiting(self, name: str) -> bool:
        """Whether anybody stands in line for ``name``."""
        return name in self._lines

    @asynccontextmanager
    async def turn(self, clock: Clock, name: str, seconds: float) -> AsyncIterator[bool]:
        """Join the line; yield True when in front, or False when ``seconds`` passed before. Leaves it at the end."""
        line = self._lines.setdefault(name, deque())
        front: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(front)
        try:
            yield line[0] is front or await wait_for_either(clock, asyncio.shield(front), seconds)
        finally:
            line.remove(front)
            if not line:
                del self._lines[name]
            elif not line[0].done():
                line[0].set_result(None)
