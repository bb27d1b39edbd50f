"""Idempotency keys as documents."""

from __future__ import annotations

import base64
import secrets
from typing import Any, ClassVar

from ...clock import Clock, SystemClock
from ...errors import DocumentConflictError, IdempotencyConflictError, IdempotencyError, IdempotencyTakenError
from ...ports.documents import Collection, Document, DocumentStore
from ...ports.idempotency import IdempotencyRecord, IdempotencyStore
from ...ports.port import check_key
from .base import DerivedStore

__all__ = ["DocumentIdempotencyStore"]

_COLLECTION = "idempotency"
_ID = "record"
_ATTEMPTS = 100


class DocumentIdempotencyStore(DerivedStore, IdempotencyStore):
    """An IdempotencyStore over any DocumentStore: one document a key, forgotten by its TTL."""

    collections: ClassVar[tuple[Collection, ...]] = (Collection(_COLLECTION),)

    def __init__(self, documents: DocumentStore, *, clock: Clock | None = None, owned: bool = False) -> None:
        super().__init__(documents, owned=owned)
        self._clock = clock or SystemClock()

    async def begin(self, key: str, *, fingerprint: str = "", ttl: float = 86_400.0) -> IdempotencyRecord:
        check_key("idempotency key", key)
        _check_ttl(ttl)
        token = secrets.token_hex(16)
        body = {
            "token": token,
            "fingerprint": fingerprint,
            "completed": False,
            "result": None,
            "began_at": self._clock.now(),
        }
        for _ in range(_ATTEMPTS):
            try:
                document = await self._documents.put(_COLLECTION, key, _ID, body, create_only=True, ttl=ttl)
                return _record(document, token=token)
            except DocumentConflictError:
                found = await self._find(key)
            if found is None:
                continue
            if found.body["fingerprint"] != fingerprint:
                raise IdempotencyConflictError(
                    f"idempotency key {key!r} was used with another request; a key belongs to one request", key=key
                )
            if found.body["completed"]:
                return _record(found)
            raise _taken(key, "another caller has begun it and not completed it; wait for it, or take_over")
        raise _contended(key)

    async def complete(self, record: IdempotencyRecord, result: bytes) -> None:
        for _ in range(_ATTEMPTS):
            found = await self._find(record.key)
            if found is None or not record.token or found.body["token"] != record.token:
                raise _taken(record.key, "it was taken over or forgotten since; the result was not stored")
            if found.body["completed"]:
                return
            body = {**found.body, "completed": True, "result": base64.b64encode(result).decode()}
            if await self._replace(found, body, self._left(found)):
                return
        raise _contended(record.key)

    async def abandon(self, record: IdempotencyRecord) -> None:
        for _ in range(_ATTEMPTS):
            found = await self._find(record.key)
            if found is None or found.body["completed"] or found.body["token"] != record.token:
                return
            try:
                await self._documents.delete(_COLLECTION, record.key, _ID, if_match=found.etag)
                return
            except DocumentConflictError:
                continue
        raise _contended(record.key)

    async def take_over(self, key: str, *, ttl: float = 86_400.0) -> IdempotencyRecord:
        _check_ttl(ttl)
        token = secrets.token_hex(16)
        for _ in range(_ATTEMPTS):
            found = await self._find(key)
            if found is None:
                raise KeyError(key)
            if found.body["completed"]:
                return _record(found)
            body = {**found.body, "token": token, "began_at": self._clock.now()}
            document = await self._replace(found, body, ttl)
            if document is not None:
                return _record(document, token=token)
        raise _contended(key)

    async def get(self, key: str) -> IdempotencyRecord | None:
        found = await self._find(key)
        return None if found is None else _record(found)

    async def _find(self, key: str) -> Document | None:
        check_key("idempotency key", key)
        return await self._documents.get(_COLLECTION, key, _ID)

    async def _replace(self, found: Document, body: dict[str, Any], ttl: float) -> Document | None:
        """The new document, or None when the old one is no longer what was found."""
        if ttl <= 0:
            return None
        try:
            return await self._documents.put(_COLLECTION, found.partition, _ID, body, if_match=found.etag, ttl=ttl)
        except DocumentConflictError:
            return None

    def _left(self, found: Document) -> float:
        return 0.0 if found.expires_at is None else found.expires_at - self._clock.now()


def _record(document: Document, token: str = "") -> IdempotencyRecord:
    body = document.body
    return IdempotencyRecord(
        key=document.partition,
        token=token,
        fingerprint=body["fingerprint"],
        completed=body["completed"],
        result=None if body["result"] is None else base64.b64decode(body["result"]),
        began_at=float(body["began_at"]),
        expires_at=document.expires_at or 0.0,
    )


def _check_ttl(ttl: float) -> None:
    if not ttl > 0:
        raise ValueError(f"ttl={ttl!r}: a key lives for a positive number of seconds")


def _taken(key: str, reason: str) -> IdempotencyTakenError:
    return IdempotencyTakenError(f"idempotency key {key!r}: {reason}", key=key)


def _contended(key: str) -> IdempotencyError:
    return IdempotencyError(f"idempotency key {key!r}: {_ATTEMPTS} rounds in a row met other writers", key=key)
