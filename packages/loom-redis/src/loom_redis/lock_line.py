"""Those of one process that wait for one lock: woken by what is published, by time, and by each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from loom.adapters.waiting import wait_for_either
from loom.clock import Clock, SystemClock
from loom.errors import PortError, StoreUnavailableError

from .client import Redis
from .wakeups import Bell

__all__ = ["LockLine", "Waiter"]

_SIGN_OF_LIFE = 3.0
"""Seconds between two signs of life of those who wait; the script passes over who gave none for ten."""


class Waiter:
    """One who waits. ``given`` gets the lease's fields, or None when the time to wait is over.

    ``ticket`` is its place in line, empty where it does not stand there; ``got_it`` says whether it left with the lock.
    """

    __slots__ = ("given", "got_it", "holder", "ticket", "ttl")

    def __init__(self, holder: str, ttl: float) -> None:
        self.holder = holder
        self.ttl = float(ttl)
        self.ticket: bytes = b""
        self.got_it = False
        self.given: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(self, given: Any) -> None:
        if not self.given.done():
            self.given.set_result(given)


class LockLine:
    """The waiters of one name in this process, and the task that looks after them. Opened by the first of them.

    The line of all processes is in Redis; here each only waits to be told.
    """

    def __init__(self, redis: Redis, clock: Clock, channel: str) -> None:
        self._redis = redis
        self._clock = clock
        self._channel = channel
        self._users = 0
        self._bell: Bell | None = None
        self._left = _SIGN_OF_LIFE
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._forget: Callable[[], object] = lambda: None
        self.waiters: dict[str, Waiter] = {}

    def open(self, stay: Callable[[], Awaitable[float]], forget: Callable[[], object]) -> None:
        """Begin. ``stay`` gives a sign of life and returns the seconds left of the lease; ``forget`` ends the line."""
        self._forget = forget
        self._task = asyncio.ensure_future(self._look_after_them(stay))

    def close(self) -> None:
        """End, with nobody told anything."""
        self._forget()
        if self._task is not None:
            self._task.cancel()
        if not self._ready.done():
            self._ready.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    async def end_waits(self) -> None:
        """Let everybody's time to wait be over, and return when all have left."""
        for waiter in self.waiters.values():
            waiter.settle(None)
        await self._ended

    @asynccontextmanager
    async def waiter(self, holder: str, ttl: float, seconds: float) -> AsyncIterator[Waiter]:
        """One who waits for ``seconds`` at most; entered once what is published to the line is heard.

        Raises StoreUnavailableError when it cannot be.
        """
        self._users += 1
        waiter = self.waiters[holder] = Waiter(holder, ttl)
        stop = _after(self._clock, seconds, lambda: waiter.settle(None))
        try:
            await asyncio.shield(self._ready)
            yield waiter
        finally:
            stop()
            self.waiters.pop(holder, None)
            self._users -= 1
            if self._users == 0:
                self.close()

    def give(self, lease: Any) -> None:
        """Tell the waiter who was handed the lock."""
        waiter = self.waiters.get(lease[0].decode())
        if waiter is not None:
            waiter.settle(lease)

    def look_after(self, seconds: float) -> None:
        """The lease ends in so many seconds: be there then."""
        if seconds < self._left:
            self._left = seconds
            if self._bell is not None:
                self._bell.ring()

    async def _look_after_them(self, stay: Callable[[], Awaitable[float]]) -> None:
        try:
            async with self._redis.listening([self._channel]) as bell:
                self._bell = bell
                self._ready.set_result(None)
                while True:
                    self._left = _SIGN_OF_LIFE
                    if any(waiter.ticket for waiter in self.waiters.values()):
                        with contextlib.suppress(PortError):  # the next sign of life may get through
                            left = await stay()
                            if 0 < left < self._left:
                                self._left = max(left, 0.001)  # it may end a moment later than a timer of ours
                    await wait_for_either(self._clock, bell.wait(), self._left)
        except StoreUnavailableError as error:
            self._forget()
            if not self._ready.done():
                self._ready.set_exception(error)
                self._ready.exception()


def _after(clock: Clock, seconds: float, act: Callable[[], None]) -> Callable[[], object]:
    """Call ``act`` after ``seconds`` of ``clock``; returns what stops that."""
    if isinstance(clock, SystemClock):
        # A timer costs a tenth of a task.
        return asyncio.get_running_loop().call_later(min(max(0.0, seconds), 1e8), act).cancel

    async def sleep() -> None:
        await clock.sleep(seconds)
        act()

    return asyncio.ensure_future(sleep()).cancel
