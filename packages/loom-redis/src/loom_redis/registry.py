"""The directory of active actors on Redis."""

from __future__ import annotations

from typing import Self

from loom.adapters.derived.registry import DocumentActorRegistry
from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL

from .adapter import RedisFacts
from .client import Redis, redis_from_url
from .documents import RedisDocumentStore

__all__ = ["RedisActorRegistry"]


class RedisActorRegistry(RedisFacts, DocumentActorRegistry):
    """An ActorRegistry on Redis. ``ttl`` is in seconds."""

    def __init__(self, redis: Redis, *, clock: Clock | None = None, ttl: float = 300.0) -> None:
        self._redis = redis
        super().__init__(RedisDocumentStore(redis, clock=clock), clock=clock, ttl=ttl, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``redis://localhost:6379/0``; see ``RedisOptions``."""
        return cls(redis_from_url(url, context), clock=context.clock)
