"""Idempotency stores, each broken in one way."""

from __future__ import annotations

import asyncio

import msgspec

from loom.adapters.memory.idempotency import InMemoryIdempotencyStore
from loom.clock import Clock
from loom.errors import IdempotencyTakenError
from loom.ports.documents import DocumentStore
from loom.ports.idempotency import IdempotencyRecord

from . import documents as broken


class BeginsTwice(InMemoryIdempotencyStore):
    """Hands a key that is taken to the next caller as well."""

    async def begin(self, key: str, *, fingerprint: str = "", ttl: float = 86_400.0) -> IdempotencyRecord:
        try:
            return await super().begin(key, fingerprint=fingerprint, ttl=ttl)
        except IdempotencyTakenError:
            return await self.take_over(key, ttl=ttl)


class LooksBeforeItBegins(InMemoryIdempotencyStore):
    """Reads that the key is free, waits, and takes it from whoever began meanwhile."""

    async def begin(self, key: str, *, fingerprint: str = "", ttl: float = 86_400.0) -> IdempotencyRecord:
        free = await self.get(key) is None
        await asyncio.sleep(0)
        if free:
            await self._documents.delete("idempotency", key, "record")
        return await super().begin(key, fingerprint=fingerprint, ttl=ttl)


class CompletesAfterATakeOver(InMemoryIdempotencyStore):
    """Does not compare the token: whoever lost the key stores its result."""

    async def complete(self, record: IdempotencyRecord, result: bytes) -> None:
        found = await self._find(record.key)
        if found is not None:
            record = msgspec.structs.replace(record, token=found.body["token"])
        await super().complete(record, result)


class AbandonsAnybodysKey(InMemoryIdempotencyStore):
    """Frees a key for whoever asks."""

    async def abandon(self, record: IdempotencyRecord) -> None:
        await self._documents.delete("idempotency", record.key, "record")


class IgnoresFingerprints(InMemoryIdempotencyStore):
    """Answers another request with the result of the first."""

    async def begin(self, key: str, *, fingerprint: str = "", ttl: float = 86_400.0) -> IdempotencyRecord:
        found = await self.get(key)
        return await super().begin(key, fingerprint=fingerprint if found is None else found.fingerprint, ttl=ttl)


class KeepsTheLastResult(InMemoryIdempotencyStore):
    """Replaces a result that callers have been given."""

    async def complete(self, record: IdempotencyRecord, result: bytes) -> None:
        found = await self._find(record.key)
        if found is not None and found.body["completed"]:
            await self._replace(found, {**found.body, "completed": False}, self._left(found))
        await super().complete(record, result)


class NothingExpires(InMemoryIdempotencyStore):
    """Keeps every key for ever."""

    def __init__(self, documents: DocumentStore | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(documents or broken.NothingExpires(clock=clock), clock=clock)


class IsNotDurable(InMemoryIdempotencyStore):
    """Declares that it is, over documents that are not."""

    def __init__(self, documents: DocumentStore | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(documents or broken.IsNotDurable(clock=clock), clock=clock)

    async def close(self) -> None:
        await super().close()
        await self._documents.close()
