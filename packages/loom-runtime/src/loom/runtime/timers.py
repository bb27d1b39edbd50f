"""Timers: one heap of due times for a whole host."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from ..clock import Clock
from .background import Background

__all__ = ["Timers"]

_LONGEST_WAIT = 60.0


class Timers:
    """Calls back at wall-clock times, never early, soon after. A clock that jumps forward fires what it jumped over."""

    def __init__(self, clock: Clock, background: Background) -> None:
        self._clock = clock
        self._background = background
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count(1)
        self._waiter: asyncio.Task[None] | None = None

    def at(self, due: float, callback: Callable[[], None]) -> int:
        """Call ``callback`` at ``due`` (Unix time); the number returned cancels it."""
        number = next(self._numbers)
        heapq.heappush(self._heap, (due, number, callback))
        if self._heap[0][1] == number:
            if self._waiter is not None:
                self._waiter.cancel()
            self._waiter = self._background.spawn(self._wait(), "loom timers")
        return number

    def cancel(self, number: int) -> None:
        """Forget a timer; harmless once it has fired."""
        self._cancelled.add(number)
        if len(self._cancelled) > 1000 and len(self._cancelled) * 2 > len(self._heap):
            self._heap = [timer for timer in self._heap if timer[1] not in self._cancelled]
            heapq.heapify(self._heap)
            self._cancelled.clear()

    @property
    def next_due(self) -> float | None:
        """The Unix time of the next callback; None when there is none."""
        return min((due for due, number, _ in self._heap if number not in self._cancelled), default=None)

    def close(self) -> None:
        """Fire nothing more."""
        self._heap.clear()
        if self._waiter is not None:
            self._waiter.cancel()

    async def _wait(self) -> None:
        while self._heap:
            due, number, callback = self._heap[0]
            if number in self._cancelled:
                heapq.heappop(self._heap)
                self._cancelled.discard(number)
                continue
            remaining = due - self._clock.now()
            if remaining > 0:
                await self._clock.sleep(min(remaining, _LONGEST_WAIT))
                continue
            heapq.heappop(self._heap)
            callback()
