"""Those of this process who wait for messages: one channel for all, on which scripts hand over what has come."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack

from loom.clock import Clock, SystemClock

from .client import Redis

__all__ = ["RECEIVE_SIZE", "Waiters"]

RECEIVE_SIZE = 10
"""Bytes by which a receive is known; each published message begins with them."""


class Waiters:
    """Waiting receives by what they are known by.

    A message comes with the text of what was leased, or with none: then, and when the connection was lost meanwhile,
    the waiter has to look for itself.
    """

    def __init__(self, redis: Redis, prefix: str, clock: Clock) -> None:
        self._redis = redis
        self._prefix = prefix
        self._clock = None if isinstance(clock, SystemClock) else clock
        self._futures: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._stack: AsyncExitStack | None = None
        self._watch: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.dismissed = False
        self.client = secrets.token_hex(8)
        """By what scripts know this process: the end of its channel's name."""

    async def open(self) -> None:
        """Listen, from the first time on. Raises StoreUnavailableError."""
        if self._watch is not None:
            return
        async with self._opening:
            if self._watch is None:
                stack = AsyncExitStack()
                bell = await stack.enter_async_context(self._redis.listening([self._prefix + self.client], self._hear))
                self._stack = stack

                async def watch() -> None:
                    while True:
                        await bell.wait()
                        self._look_again()

                self._watch = asyncio.ensure_future(watch())

    async def dismiss(self) -> None:
        """Wake all who wait, to leave, and return when they have left."""
        self.dismissed = True
        self._look_again()
        while self._futures:
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        """Listen no more."""
        self.dismissed = False
        if self._watch is not None and self._stack is not None:
            self._watch.cancel()
            self._watch = None
            await self._stack.aclose()

    def expect(self, receive: bytes) -> asyncio.Future[bytes | None]:
        """Before a script is told of a waiter: the future of what it is handed."""
        future = self._futures[receive] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, receive: bytes) -> None:
        """It waits no more."""
        self._futures.pop(receive, None)

    async def wait(self, future: asyncio.Future[bytes | None], seconds: float) -> bytes | None:
        """What was handed over; empty when the waiter is to look again, None when the time is over or unsure."""
        if self._clock is not None:
            timer = asyncio.ensure_future(self._clock.sleep(seconds))
            try:
                await asyncio.wait((future, timer), return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
            return future.result() if future.done() else None
        handle = asyncio.get_running_loop().call_later(seconds, _over, future)
        try:
            return await future
        finally:
            handle.cancel()

    def _look_again(self) -> None:
        for future in self._futures.values():
            _over(future)

    def _hear(self, said: bytes) -> None:
        future = self._futures.get(said[:RECEIVE_SIZE])
        if future is not None and not future.done():
            future.set_result(said[RECEIVE_SIZE:])


def _over(future: asyncio.Future[bytes | None]) -> None:
    if not future.done():
        future.set_result(None)
