"""Documents in a SQLite file, a table for each collection."""

from __future__ import annotations

import itertools
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from ...clock import Clock
from ...errors import PortError, TooLargeError
from ...ports.documents import Collection, Document, DocumentStore, Operation, Page, Put, Query, check_indexed
from ...ports.port import check_key
from .. import document_rules as rules
from . import document_tables as tables
from .adapter import SqliteAdapter
from .database import Database

__all__ = ["SqliteDocumentStore"]

_PRUNE_SECONDS = 1.0


class _Change(msgspec.Struct, frozen=True):
    """An operation and, for a put, what it will have written."""

    operation: Operation
    data: bytes
    document: Document | None


class _Batch(msgspec.Struct, frozen=True):
    table: str
    partition: str
    changes: list[_Change]
    unconditional: bool
    creates: bool
    now: float

    @property
    def documents(self) -> list[Document | None]:
        return [change.document for change in self.changes]


class SqliteDocumentStore(SqliteAdapter, DocumentStore):
    """A DocumentStore in one SQLite file, shared by the processes of a host.

    Batches that wait at the same moment share one transaction and so one fsync; puts without a condition share one
    statement. Bodies are at most 16 MiB.
    """

    max_bytes = rules.MAX_BODY_BYTES

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        super().__init__(database, clock=clock)
        self._collections: dict[str, Collection] = {}
        self._prune_at: dict[str, float] = {}
        self._prefix = secrets.token_hex(8)
        self._writes = itertools.count(1)

    async def ensure(self, collections: Sequence[Collection]) -> None:
        for collection in collections:
            rules.check_collection(collection)
        merged: dict[str, Collection] = {}
        for collection in collections:
            known = merged.get(collection.name) or self._collections.get(collection.name)
            merged[collection.name] = rules.merge(known, collection)

        def create(connection: sqlite3.Connection) -> None:
            for collection in merged.values():
                tables.create(connection, collection)

        await self._database.write(create)
        self._collections.update(merged)

    async def get(self, collection: str, partition: str, id: str) -> Document | None:
        self._known(collection)
        check_key("partition", partition)
        check_key("id", id)
        select = f'SELECT body, etag, expires_at FROM "{tables.table_name(collection)}" WHERE partition = ? AND id = ?'
        row = await self._database.read(lambda connection: connection.execute(select, (partition, id)).fetchone())
        if row is None or (row[2] is not None and row[2] <= self._clock.now()):
            return None
        return Document(partition, id, msgspec.json.decode(row[0]), row[1], row[2])

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        item = self._prepare(collection, partition, operations)
        if not item.changes:
            return []
        [refusal] = await self._database.write_grouped(self._apply, [item])
        if refusal is not None:
            raise refusal
        return item.documents

    async def batch_many(
        self, collection: str, batches: Sequence[tuple[str, Sequence[Operation]]]
    ) -> list[list[Document | None] | PortError]:
        prepared: list[_Batch | TooLargeError] = []
        for partition, operations in batches:
            try:
                prepared.append(self._prepare(collection, partition, operations))
            except TooLargeError as error:
                prepared.append(error)
        items = [item for item in prepared if isinstance(item, _Batch)]
        written = await self._database.write_grouped(self._apply, items, at_once=True) if items else []
        refusals = iter(written)
        return [item if isinstance(item, TooLargeError) else next(refusals) or item.documents for item in prepared]

    def _prepare(self, collection: str, partition: str, operations: Sequence[Operation]) -> _Batch:
        default = self._known(collection).ttl
        rules.check_operations(collection, partition, operations)
        now, changes, unconditional = self._clock.now(), [], True
        for operation in operations:
            if isinstance(operation, Put):
                ttl = default if operation.ttl is None else operation.ttl
                data, body = rules.encode_body(operation.body)
                etag = f"{self._prefix}{next(self._writes):x}"
                document = Document(partition, operation.id, body, etag, None if ttl is None else now + ttl)
                changes.append(_Change(operation, data, document))
                unconditional = unconditional and operation.if_match is None and not operation.create_only
            else:
                changes.append(_Change(operation, b"", None))
                unconditional = False
        creates = len(operations) == 1 and isinstance(operations[0], Put) and operations[0].create_only
        return _Batch(tables.table_name(collection), partition, changes, unconditional, creates, now)

    async def query(self, collection: str, query: Query) -> Page:
        known = self._known(collection)
        rules.check_query(query)
        check_indexed(known, query)
        statement = tables.query_sql(tables.table_name(collection), query, self._clock.now())
        if statement is None:
            return Page([])
        sql, parameters = statement
        rows = await self._database.read(lambda connection: connection.execute(sql, parameters).fetchall())
        decode = msgspec.json.decode
        documents = [Document(row[0], row[1], decode(row[2]), row[3], row[4]) for row in rows[: query.limit]]
        more = len(rows) > query.limit
        cursor = rules.encode_cursor(documents[-1], query.order_by) if more else None
        now = self._clock.now()
        return Page([d for d in documents if d.expires_at is None or d.expires_at > now], cursor)

    def _known(self, collection: str) -> Collection:
        known = self._collections.get(collection)
        if known is None:
            raise rules.missing(collection)
        return known

    def _apply(self, connection: sqlite3.Connection, calls: list[list[_Batch]]) -> list[list[PortError | None]]:
        """Apply batches in order, in the writer's transaction. A refused one has written nothing."""
        outcomes = iter(self._apply_all(connection, [batch for call in calls for batch in call]))
        return [[next(outcomes) for _ in call] for call in calls]

    def _apply_all(self, connection: sqlite3.Connection, batches: list[_Batch]) -> list[PortError | None]:
        outcomes: list[PortError | None] = [None] * len(batches)
        writers: dict[str, _TableWriter] = {}
        for index, batch in enumerate(batches):
            writer = writers.get(batch.table)
            if writer is None:
                writer = writers[batch.table] = _TableWriter(connection, batch.table)
            if batch.unconditional or batch.creates:
                writer.collect(batch, index, outcomes)
            else:
                writer.flush(outcomes)
                outcomes[index] = writer.apply(batch)
        for table, writer in writers.items():
            writer.flush(outcomes)
            now = batches[-1].now
            if now >= self._prune_at.get(table, 0.0):
                self._prune_at[table] = now + _PRUNE_SECONDS
                connection.execute(tables.prune_sql(table), (now,))
        return outcomes


class _TableWriter:
    """Writes to one table within one transaction."""

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._fields = tables.fields_of(connection, table)
        self._upsert = tables.upsert_sql(table, self._fields)
        self._ids: set[tuple[str, str]] = set()
        self._rows: list[tuple[Any, ...]] = []
        self._creates: list[tuple[int, _Batch]] = []

    def collect(self, batch: _Batch, index: int, outcomes: list[PortError | None]) -> None:
        """Put the batch off until ``flush``: documents that differ have no order among one another."""
        ids = {(batch.partition, change.operation.id) for change in batch.changes}
        if not self._ids.isdisjoint(ids):
            self.flush(outcomes)
        self._ids |= ids
        if batch.creates:
            self._creates.append((index, batch))
        else:
            self._rows += [self._row(change) for change in batch.changes]

    def flush(self, outcomes: list[PortError | None]) -> None:
        if self._rows:
            self._connection.executemany(self._upsert, self._rows)
        if self._creates:
            statement = tables.upsert_sql(self._table, self._fields, create_only=True)
            rows = [(*self._row(batch.changes[0]), batch.now) for _, batch in self._creates]
            if self._connection.executemany(statement, rows).rowcount < len(rows):
                for index, batch in self._creates:
                    outcomes[index] = self._refusal(batch, batch.changes[0].operation)
        self._ids, self._rows, self._creates = set(), [], []

    def apply(self, batch: _Batch) -> PortError | None:
        for change in batch.changes:
            refusal = self._refusal(batch, change.operation)
            if refusal is not None:
                return refusal
        for change in batch.changes:
            if change.document is not None:
                self._connection.execute(self._upsert, self._row(change))
            else:
                delete = f'DELETE FROM "{self._table}" WHERE partition = ? AND id = ?'
                self._connection.execute(delete, (batch.partition, change.operation.id))
        return None

    def _refusal(self, batch: _Batch, operation: Operation) -> PortError | None:
        if operation.if_match is None and not (isinstance(operation, Put) and operation.create_only):
            return None
        found = self._connection.execute(
            f'SELECT etag FROM "{self._table}" WHERE partition = ? AND id = ? '
            "AND (expires_at IS NULL OR expires_at > ?)",
            (batch.partition, operation.id, batch.now),
        ).fetchone()
        created = batch.documents[0] if batch.creates else None
        if created is not None and found is not None and found[0] == created.etag:
            return None  # it is the very one that was created
        collection = self._table.removeprefix("documents_")
        return rules.conflict(collection, batch.partition, operation, found and found[0])

    def _row(self, change: _Change) -> tuple[Any, ...]:
        assert change.document is not None
        return tables.row_of(self._fields, change.document, change.data)
