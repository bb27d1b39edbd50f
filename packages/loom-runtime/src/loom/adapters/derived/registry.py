"""The directory of active actors, as documents that expire."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from ...clock import Clock, SystemClock
from ...errors import DocumentConflictError, DocumentError
from ...ports.documents import Collection, Document, DocumentStore, Query
from ...ports.port import check_key
from ...ports.registry import ActorRecord, ActorRegistry, ActorStatus
from .base import DerivedStore

__all__ = ["DocumentActorRegistry"]

_COLLECTION = "actor_registry"
_ATTEMPTS = 100


class DocumentActorRegistry(DerivedStore, ActorRegistry):
    """An ActorRegistry over any DocumentStore: a partition for each actor type, a document for each actor."""

    collections: ClassVar[tuple[Collection, ...]] = (Collection(_COLLECTION),)

    def __init__(
        self, documents: DocumentStore, *, clock: Clock | None = None, ttl: float = 300.0, owned: bool = False
    ) -> None:
        super().__init__(documents, owned=owned)
        if not ttl > 0:
            raise ValueError(f"ttl={ttl!r} must be positive")
        self.ttl = ttl
        self._clock = clock or SystemClock()

    async def register(self, record: ActorRecord) -> None:
        for _ in range(_ATTEMPTS):
            found = await self._find(record.actor_type, record.key)
            now = self._clock.now()
            first = (record.registered_at or now) if found is None else found.body["registered_at"]
            body = {
                "host": record.host,
                "status": record.status,
                "messages": record.messages,
                "registered_at": first,
                "seen_at": now,
            }
            if await self._replace(record.actor_type, record.key, found, body):
                return
        raise _contended(record.actor_type, record.key)

    async def heartbeat(
        self, actor_type: str, key: str, *, status: ActorStatus | None = None, messages: int | None = None
    ) -> bool:
        for _ in range(_ATTEMPTS):
            found = await self._find(actor_type, key)
            if found is None:
                return False
            body = {**found.body, "seen_at": self._clock.now()}
            if status is not None:
                body["status"] = status
            if messages is not None:
                body["messages"] = messages
            if await self._replace(actor_type, key, found, body):
                return True
        raise _contended(actor_type, key)

    async def unregister(self, actor_type: str, key: str) -> None:
        check_key("actor type", actor_type)
        check_key("key", key)
        await self._documents.delete(_COLLECTION, actor_type, key)

    async def get(self, actor_type: str, key: str) -> ActorRecord | None:
        found = await self._find(actor_type, key)
        return None if found is None else _record(found)

    async def list(
        self, actor_type: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[ActorRecord], str | None]:
        page = await self._documents.query(_COLLECTION, Query(partition=actor_type, limit=limit, cursor=cursor))
        return [_record(document) for document in page.documents], page.cursor

    async def _find(self, actor_type: str, key: str) -> Document | None:
        check_key("actor type", actor_type)
        check_key("key", key)
        return await self._documents.get(_COLLECTION, actor_type, key)

    async def _replace(self, actor_type: str, key: str, found: Document | None, body: dict[str, Any]) -> bool:
        etag = None if found is None else found.etag
        try:
            await self._documents.put(
                _COLLECTION, actor_type, key, body, if_match=etag, create_only=found is None, ttl=self.ttl
            )
        except DocumentConflictError:
            return False
        return True


def _record(document: Document) -> ActorRecord:
    return msgspec.convert({**document.body, "actor_type": document.partition, "key": document.id}, ActorRecord)


def _contended(actor_type: str, key: str) -> DocumentError:
    return DocumentError(
        f"{actor_type}/{key}: {_ATTEMPTS} updates in a row met another writer; try again",
        actor_type=actor_type,
        key=key,
    )
