"""Documents on Redis: a hash for each partition, one script a batch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Sequence

from loom.adapters import document_rules as rules
from loom.clock import Clock, SystemClock
from loom.errors import StoreUnavailableError, TooLargeError
from loom.ports.documents import Collection, Document, DocumentStore, Operation, Page, Put, Query, check_indexed
from loom.ports.port import check_key

from .adapter import RedisAdapter
from .client import Redis
from .document_batch import Batches, Change
from .document_keys import PartitionKeys
from .document_partitions import Partitions
from .document_plan import cursor_of, plan_of
from .document_scan import Scan, Walk, document_of, lives, server_time

__all__ = ["MAX_BATCH_BYTES", "RedisDocumentStore"]

MAX_BATCH_BYTES = 64 * 2**20
"""The bodies of one batch together: the server holds them in memory, and runs nothing else meanwhile."""

_CLEANED = 16


class RedisDocumentStore(RedisAdapter, DocumentStore):
    """A DocumentStore on Redis.

    A partition lies in one slot of a cluster, and a batch is one script. Bodies are at most 16 MiB, those of a batch
    together at most 64. Time is the server's, unless a clock other than the system's is handed in.

    A query of one partition reads what its page holds, from an index in the order that is wanted; only a range that
    is wanted by id reads all the ids that match. A query over all partitions asks each of them. Neither blocks the
    server for longer than a few milliseconds a time.

    A batch whose reply was lost is looked for: when the documents are there, it was applied. When they are not, puts
    without a condition are sent again, and of others StoreUnavailableError with ``unknown=True`` says that they may
    still be applied. What has expired goes with the next writes to its partition, and on its own once everything in
    the partition has.
    """

    max_bytes = rules.MAX_BODY_BYTES

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        super().__init__(redis, clock=clock)
        self._clock = None if clock is None or isinstance(clock, SystemClock) else clock
        self._collections: dict[str, Collection] = {}
        self._prefix = secrets.token_hex(8)
        self._writes = itertools.count(1)
        self._partitions = Partitions(redis, self._now, self._unique)
        self._batches = Batches(redis, self._partitions, self._now, self._unique)

    async def ensure(self, collections: Sequence[Collection]) -> None:
        for collection in collections:
            rules.check_collection(collection)
        for collection in collections:
            merged = rules.merge(self._collections.get(collection.name), collection)
            await self._partitions.ensure(merged)
            self._collections[collection.name] = merged

    async def get(self, collection: str, partition: str, id: str) -> Document | None:
        self._known(collection)
        check_key("partition", partition)
        check_key("id", id)
        key = PartitionKeys.of(self._redis, collection, partition).documents
        record = await self._redis.call("HGET", key, id, key=key, repeatable=True)
        if record is None:
            return None
        document = document_of(partition, id, record)
        if document.expires_at is not None:
            # Asked after the record was read, so what is returned was alive then.
            now = await server_time(self._redis, self._now(), key)
            return document if lives(document, now) else None
        return document

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        default = self._known(collection).ttl
        rules.check_operations(collection, partition, operations)
        changes: list[Change] = []
        size = 0
        for operation in operations:
            if isinstance(operation, Put):
                ttl = default if operation.ttl is None else operation.ttl
                data, body = rules.encode_body(operation.body)
                changes.append(Change(operation, self._unique(), ttl, data, body))
                size += len(data)
            else:
                changes.append(Change(operation))
        if not changes:
            return []
        if size > MAX_BATCH_BYTES:
            raise TooLargeError(
                f"a batch of {size} bytes is larger than {MAX_BATCH_BYTES}; split it",
                collection=collection,
                partition=partition,
            )
        expiries = await self._batches.write(collection, partition, changes)
        return [
            Document(partition, change.operation.id, change.body, change.etag, float(expires) if expires else None)
            if change.etag
            else None
            for change, expires in zip(changes, expiries, strict=True)
        ]

    async def query(self, collection: str, query: Query) -> Page:
        known = self._known(collection)
        rules.check_query(query)
        check_indexed(known, query)
        cursor = cursor_of(query)
        plan = plan_of(self._partitions.schema(collection), query)
        if plan is None:
            return Page([])
        walk = Walk(self._redis, self._now, self._partitions, collection, plan, query, cursor)
        found = await walk.read(query.limit + 1)
        await self._clean(collection, walk.scans)
        if len(found) <= query.limit:
            return Page(found)
        return Page(found[: query.limit], rules.encode_cursor(found[query.limit - 1], query.order_by))

    async def _clean(self, collection: str, scans: Sequence[Scan]) -> None:
        """Some of what the query met and should not meet again. Somebody else will, if this fails."""
        empty = [scan.partition for scan in scans if scan.empty][:_CLEANED]
        stale = [scan.partition for scan in scans if scan.expired][:_CLEANED]
        with contextlib.suppress(StoreUnavailableError):
            if empty:
                await self._partitions.drop_empty(collection, empty)
            await asyncio.gather(*(self._batches.purge(collection, partition) for partition in stale))

    def _known(self, collection: str) -> Collection:
        known = self._collections.get(collection)
        if known is None:
            raise rules.missing(collection)
        return known

    def _now(self) -> str:
        """The time as scripts take it: empty for the server's own."""
        return "" if self._clock is None else repr(self._clock.now())

    def _unique(self) -> str:
        return f"{self._prefix}{next(self._writes):x}"
