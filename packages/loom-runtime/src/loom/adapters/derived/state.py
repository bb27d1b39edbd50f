"""Actor state, projected into documents."""

from __future__ import annotations

from typing import ClassVar

from ...clock import Clock, SystemClock
from ...errors import DocumentConflictError, DocumentError
from ...ports.documents import Collection, Document, DocumentStore, Query
from ...ports.port import check_key
from ...ports.state import StateRecord, StateStore
from .base import DerivedStore

__all__ = ["DocumentStateStore"]

_COLLECTION = "actor_state"
_ATTEMPTS = 100


class DocumentStateStore(DerivedStore, StateStore):
    """A StateStore over any DocumentStore: a partition for each actor type, a document for each actor."""

    collections: ClassVar[tuple[Collection, ...]] = (Collection(_COLLECTION),)

    def __init__(self, documents: DocumentStore, *, clock: Clock | None = None, owned: bool = False) -> None:
        """``clock`` is accepted as every adapter accepts it; a projection asks nobody for the time."""
        super().__init__(documents, owned=owned)
        self._clock = clock or SystemClock()

    async def save(self, record: StateRecord) -> bool:
        check_key("actor type", record.actor_type)
        check_key("key", record.key)
        body = {"state": record.state, "seq": record.seq, "updated_at": record.updated_at}
        for _ in range(_ATTEMPTS):
            found = await self._documents.get(_COLLECTION, record.actor_type, record.key)
            if found is not None and found.body["seq"] >= record.seq:
                return False
            etag = None if found is None else found.etag
            try:
                await self._documents.put(
                    _COLLECTION, record.actor_type, record.key, body, if_match=etag, create_only=found is None
                )
                return True
            except DocumentConflictError:
                continue
        raise DocumentError(
            f"{record.actor_type}/{record.key}: {_ATTEMPTS} saves in a row met another writer; try again",
            actor_type=record.actor_type,
            key=record.key,
        )

    async def load(self, actor_type: str, key: str) -> StateRecord | None:
        check_key("actor type", actor_type)
        check_key("key", key)
        found = await self._documents.get(_COLLECTION, actor_type, key)
        return None if found is None else _record(found)

    async def delete(self, actor_type: str, key: str) -> None:
        check_key("actor type", actor_type)
        check_key("key", key)
        await self._documents.delete(_COLLECTION, actor_type, key)

    async def query(
        self, actor_type: str, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[StateRecord], str | None]:
        check_key("actor type", actor_type)
        page = await self._documents.query(_COLLECTION, Query(partition=actor_type, limit=limit, cursor=cursor))
        return [_record(document) for document in page.documents], page.cursor


def _record(document: Document) -> StateRecord:
    body = document.body
    return StateRecord(document.partition, document.id, body["state"], int(body["seq"]), float(body["updated_at"]))
