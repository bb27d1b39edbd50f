"""The way around the queue: what is published reaches whoever listens now, and nothing is kept."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from loom.ports import DirectChannel

from .client import Redis
from .wakeups import Bell

__all__ = ["RedisDirectChannel"]

_SIZE = struct.Struct(">I")


class RedisDirectChannel(DirectChannel):
    """A DirectChannel by PUBLISH. Messages of one call to one address are one command."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._prefix = f"{redis.options.namespace}:direct:"
        self._stack = AsyncExitStack()
        self._watching: list[asyncio.Task[None]] = []

    async def listen(self, address: str, hear: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        def hear_all(said: bytes) -> None:
            at, end = 0, len(said)
            while at < end:
                (size,) = _SIZE.unpack_from(said, at)
                at += _SIZE.size
                hear(said[at : at + size])
                at += size

        bell = await self._stack.enter_async_context(self._redis.listening([self._prefix + address], hear_all))
        self._watching.append(asyncio.ensure_future(_watch(bell, missed)))

    async def send_many(self, messages: Sequence[tuple[str, bytes]]) -> None:
        parts: dict[str, list[bytes]] = {}
        for address, body in messages:
            parts.setdefault(address, []).extend((_SIZE.pack(len(body)), body))
        # Sent again after an unknown outcome: a listener may hear it twice, which it may by the contract.
        await asyncio.gather(
            *(
                self._redis.call("PUBLISH", self._prefix + address, b"".join(some), repeatable=True)
                for address, some in parts.items()
            )
        )

    async def close(self) -> None:
        """Listen no more."""
        for task in self._watching:
            task.cancel()
        self._watching.clear()
        await self._stack.aclose()


async def _watch(bell: Bell, missed: Callable[[], None]) -> None:
    while True:
        await bell.wait()
        missed()
