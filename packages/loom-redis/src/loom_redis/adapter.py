"""What the adapters of this package have in common beyond their ports."""

from __future__ import annotations

import asyncio
from typing import Self

from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL
from loom.ports.port import Port

from .client import Redis, redis_from_url

__all__ = ["RedisAdapter", "RedisFacts"]


class RedisFacts:
    """Mixed into an adapter that keeps its client in ``_redis``: it tells ``loom doctor`` what the server is like."""

    _redis: Redis

    async def facts(self) -> dict[str, str]:
        """Version, role, persistence in words, memory, round trip, and what to change. Raises StoreUnavailableError."""
        from .facts import facts_of

        return await facts_of(self._redis)


class RedisAdapter(RedisFacts, Port):
    """The life of an adapter over a ``Redis``, which counts its users: the last one closes it."""

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        """Time is the server's, unless ``clock`` is another than the system's."""
        self._redis = redis
        self._started = False
        self._starting = asyncio.Lock()

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``redis://HOST:PORT/DB``; see ``RedisOptions`` for the options."""
        return cls(redis_from_url(url, context), clock=context.clock)

    async def start(self) -> None:
        async with self._starting:
            if not self._started:
                await self._redis.start()
                self._started = True

    async def close(self) -> None:
        if self._started:
            self._started = False
            await self._drain()
            await self._redis.close()

    async def _drain(self) -> None:
        """As it is closed, for the last time with the server: end what is under way."""
