"""Deadlines: many of them, nearly all cancelled, so kept in coarse buckets instead of a timer each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Deadline", "Deadlines"]

_PRECISION = 0.05


class Deadline:
    """One deadline; ``cancel`` it when what it guards is done."""

    __slots__ = ("_bucket", "callback")

    def __init__(self, bucket: set[Deadline], callback: Callable[[], None]) -> None:
        self._bucket = bucket
        self.callback = callback

    def cancel(self) -> None:
        """Never call back; harmless afterwards."""
        self._bucket.discard(self)


class Deadlines:
    """Calls back after a time on the event loop's clock, up to 50 ms late, never early.
    Setting and cancelling is cheap.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[int, set[Deadline]] = {}
        self._next: asyncio.TimerHandle | None = None

    def after(self, seconds: float, callback: Callable[[], None]) -> Deadline:
        """Call ``callback`` after ``seconds`` unless the deadline is cancelled."""
        number = int((self._loop.time() + seconds) / _PRECISION) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = set()
            if self._next is None:
                self._next = self._loop.call_later(_PRECISION, self._sweep)
        deadline = Deadline(bucket, callback)
        bucket.add(deadline)
        return deadline

    def close(self) -> None:
        """Call nobody back any more."""
        self._buckets.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _sweep(self) -> None:
        now = self._loop.time() / _PRECISION
        due = sorted(number for number, bucket in self._buckets.items() if number <= now or not bucket)
        self._next = None
        for number in due:
            bucket = self._buckets.pop(number)
            for deadline in list(bucket):
                deadline.callback()
        if self._buckets and self._next is None:
            self._next = self._loop.call_later(_PRECISION, self._sweep)
