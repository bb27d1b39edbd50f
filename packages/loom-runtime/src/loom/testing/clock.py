"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time

from ..clock import Clock

__all__ = ["ManualClock"]


class ManualClock(Clock):
    """Wall and monotonic time that move by ``advance`` only. Used from one event loop.

    It starts at the real time unless told, so that what a child process with the system's clock has stored lies in
    this clock's past or near future, and not decades away.
    """

    def __init__(self, start: float | None = None) -> None:
        self._wall = float(round(time.time() if start is None else start))
        self._monotonic = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), waker))
        await waker

    @property
    def sleeping(self) -> int:
        """How many tasks sleep on this clock: wait for it to become what you expect before you ``advance``."""
        return sum(not waker.done() for _, _, waker in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass and wake, in the order of their deadlines, the sleepers that were due."""
        if seconds < 0:
            raise ValueError(f"advance({seconds}): monotonic time cannot go back; see set_wall")
        self._wall += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, waker = heapq.heappop(self._sleepers)
            if not waker.done():
                waker.set_result(None)

    def set_wall(self, now: float) -> None:
        """Make the wall clock jump, back or forth, as an administrator or NTP would; nobody is woken."""
        self._wall = now
