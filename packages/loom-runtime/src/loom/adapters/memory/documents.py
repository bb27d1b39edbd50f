"""A document store in the memory of this process."""

from __future__ import annotations

import heapq
import itertools
import secrets
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec

from ...clock import Clock, SystemClock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.documents import Collection, Document, DocumentStore, Operation, Page, Put, Query, check_indexed
from ...ports.port import check_key
from .. import document_rules as rules
from .ephemeral import warn_if_production

__all__ = ["InMemoryCosmos", "InMemoryDocumentStore"]

_Name = tuple[str, str]


class _Stored(msgspec.Struct, frozen=True):
    """``body`` is never handed out; ``data`` is decoded for every reader, so nobody can change what is stored."""

    data: bytes
    body: dict[str, Any]
    etag: str
    expires_at: float | None

    def document(self, name: _Name) -> Document:
        return Document(name[0], name[1], msgspec.json.decode(self.data), self.etag, self.expires_at)


class _Table:
    def __init__(self) -> None:
        self.rows: dict[_Name, _Stored] = {}
        self.names: list[_Name] = []
        self.expiries: list[tuple[float, _Name]] = []

    def get(self, name: _Name, now: float) -> _Stored | None:
        row = self.rows.get(name)
        return None if row is None or (row.expires_at is not None and row.expires_at <= now) else row

    def put(self, name: _Name, row: _Stored) -> None:
        if name not in self.rows:
            insort(self.names, name)
        self.rows[name] = row
        if row.expires_at is not None:
            heapq.heappush(self.expiries, (row.expires_at, name))

    def remove(self, name: _Name) -> None:
        if self.rows.pop(name, None) is not None:
            del self.names[bisect_left(self.names, name)]

    def prune(self, now: float) -> None:
        while self.expiries and self.expiries[0][0] <= now:
            _, name = heapq.heappop(self.expiries)
            if name in self.rows and self.get(name, now) is None:
                self.remove(name)

    def live(self, partition: str | None, now: float) -> Iterator[tuple[_Name, _Stored]]:
        start = 0 if partition is None else bisect_left(self.names, (partition, ""))
        for index in range(start, len(self.names)):
            name = self.names[index]
            if partition is not None and name[0] != partition:
                return
            row = self.get(name, now)
            if row is not None:
                yield name, row


class _World:
    """The data, apart from the adapter: several adapters may show one world."""

    def __init__(self) -> None:
        self.tables: dict[str, _Table] = {}
        self.prefix = secrets.token_hex(8)
        self.writes = itertools.count(1)


def _world_of(url: LoomURL, context: AdapterContext) -> _World:
    return context.shared(f"memory:documents:{url.host}{url.path}", _World)


class InMemoryDocumentStore(DocumentStore):
    """A DocumentStore that lives as long as the process: for tests and for trying things out.

    Bodies are at most 16 MiB. A query that orders reads the whole partition, or the whole collection.
    """

    max_bytes = rules.MAX_BODY_BYTES

    def __init__(self, *, clock: Clock | None = None) -> None:
        warn_if_production(type(self).__name__)
        self._set(clock, _World())

    def _set(self, clock: Clock | None, world: _World) -> None:
        self._clock = clock or SystemClock()
        self._world = world
        self._collections: dict[str, Collection] = {}

    @classmethod
    def sharing(cls, other: InMemoryDocumentStore) -> Self:
        """Another client of the data of ``other``."""
        store = cls(clock=other._clock)
        store._world = other._world
        return store

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        store = cls(clock=context.clock)
        store._world = _world_of(url, context)
        return store

    @classmethod
    def beneath(cls, clock: Clock | None, *, shared: tuple[LoomURL, AdapterContext] | None = None) -> Self:
        """The store that another in-memory adapter stands on: that one has given the warning, in its own name."""
        store = cls.__new__(cls)
        store._set(clock, _World() if shared is None else _world_of(*shared))
        return store

    async def ensure(self, collections: Sequence[Collection]) -> None:
        for collection in collections:
            rules.check_collection(collection)
        for collection in collections:
            name = collection.name
            self._collections[name] = rules.merge(self._collections.get(name), collection)
            self._world.tables.setdefault(name, _Table())

    async def get(self, collection: str, partition: str, id: str) -> Document | None:
        table = self._table(collection)
        check_key("partition", partition)
        check_key("id", id)
        row = table.get((partition, id), self._clock.now())
        return None if row is None else row.document((partition, id))

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        table = self._table(collection)
        rules.check_operations(collection, partition, operations)
        now, default = self._clock.now(), self._collections[collection].ttl
        table.prune(now)
        written: list[_Stored | None] = []
        for operation in operations:
            row = None
            if isinstance(operation, Put):
                ttl = default if operation.ttl is None else operation.ttl
                data, body = rules.encode_body(operation.body)
                etag = f"{self._world.prefix}{next(self._world.writes):x}"
                row = _Stored(data, body, etag, None if ttl is None else now + ttl)
            found = table.get((partition, operation.id), now)
            refusal = rules.conflict(collection, partition, operation, None if found is None else found.etag)
            if refusal is not None:
                raise refusal
            written.append(row)
        results: list[Document | None] = []
        for operation, row in zip(operations, written, strict=True):
            name = (partition, operation.id)
            if row is None:
                table.remove(name)
            else:
                table.put(name, row)
            results.append(None if row is None else row.document(name))
        return results

    async def query(self, collection: str, query: Query) -> Page:
        table = self._table(collection)
        rules.check_query(query)
        check_indexed(self._collections[collection], query)
        found = []
        for name, row in table.live(query.partition, self._clock.now()):
            key = None if query.order_by is None else rules.comparable(row.body.get(query.order_by))
            if (query.order_by is None or key is not None) and rules.matches(row.body, query.where):
                found.append(((key or (0, 0), *name), name, row))
        if query.cursor is not None:
            value, *after = rules.decode_cursor(query.cursor, query.order_by)
            last = (value or (0, 0), *after)
            found = [item for item in found if (item[0] < last if query.descending else item[0] > last)]
        found.sort(key=lambda item: item[0], reverse=query.descending)
        documents = [row.document(name) for _, name, row in found[: query.limit]]
        more = len(found) > query.limit
        return Page(documents, rules.encode_cursor(documents[-1], query.order_by) if more else None)

    def _table(self, collection: str) -> _Table:
        if collection not in self._collections:
            raise rules.missing(collection)
        return self._world.tables[collection]


class InMemoryCosmos(InMemoryDocumentStore):
    """The in-memory stand-in for Cosmos DB, under the name by which people look for it."""
