"""Secrets on Redis."""

from __future__ import annotations

from typing import Self

from loom.adapters.derived.secrets import DocumentSecretsStore
from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL
from loom.sealing import Keyring

from .client import Redis, redis_from_url
from .documents import RedisDocumentStore

__all__ = ["RedisSecretsStore"]


class RedisSecretsStore(DocumentSecretsStore):
    """A SecretsStore on Redis. Values are sealed before they leave this process."""

    def __init__(self, redis: Redis, *, keyring: Keyring | None = None, clock: Clock | None = None) -> None:
        self._redis = redis
        super().__init__(RedisDocumentStore(redis, clock=clock), keyring=keyring, clock=clock, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``redis://localhost:6379/0``; see ``RedisOptions``."""
        return cls(redis_from_url(url, context), clock=context.clock)

    async def facts(self) -> dict[str, str]:
        """What the server is like, and which keys seal."""
        from .facts import facts_of

        return {**await facts_of(self._redis), **await super().facts()}
