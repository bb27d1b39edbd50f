"""Documents on Redis: a hash for each partition, one script a batch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from loom.adapters import document_rules as rules
from loom.clock import Clock, SystemClock
from loom.errors import DocumentError, StoreUnavailableError, TooLargeError
from loom.plugins import AdapterContext, LoomURL
from loom.ports.documents import Collection, Document, DocumentStore, Operation, Page, Put, Query, check_indexed
from loom.ports.port import check_key

from .channel import Argument
from .client import Redis, redis_from_url
from .document_index import members_of
from .document_keys import PartitionKeys
from .document_partitions import NO_TICKET, Partitions, Ticket
from .document_plan import cursor_of, plan_of
from .document_scan import Scan, Walk, document_of, lives, server_time
from .scripts import load_script

__all__ = ["MAX_BATCH_BYTES", "RedisDocumentStore"]

MAX_BATCH_BYTES = 64 * 2**20
"""The bodies of one batch together: the server holds them in memory, and runs nothing else meanwhile."""

_WRITE = load_script("documents_write")
_ATTEMPTS = 100
_KNOWN = 10_000
_CLEANED = 16


class _Change(msgspec.Struct, frozen=True):
    """An operation and, for a put, what it will write. ``etag`` is empty for a delete."""

    operation: Operation
    etag: str = ""
    ttl: float | None = None
    data: bytes = b""
    body: dict[str, Any] = {}


class RedisDocumentStore(DocumentStore):
    """A DocumentStore on Redis.

    A partition lies in one slot of a cluster, and a batch is one script. Bodies are at most 16 MiB, those of a batch
    together at most 64. Time is the server's, unless a clock other than the system's is handed in.

    A query of one partition reads what its page holds, from an index in the order that is wanted; only a range that
    is wanted by id reads all the ids that match. A query over all partitions asks each of them. Neither blocks the
    server for longer than a few milliseconds a time.

    A batch whose reply was lost is looked for: when the documents are there, it was applied. When they are not,
    StoreUnavailableError with ``unknown=True`` says that it may still be. What has expired goes with the next writes
    to its partition, and on its own once everything in the partition has.
    """

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        self._redis = redis
        self._clock = None if clock is None or isinstance(clock, SystemClock) else clock
        self._started = False
        self._collections: dict[str, Collection] = {}
        self._prefix = secrets.token_hex(8)
        self._writes = itertools.count(1)
        self._partitions = Partitions(redis, self._now, self._unique)
        self._opened: set[tuple[str, str]] = set()

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``redis://localhost:6379/0``; see ``RedisOptions``."""
        return cls(redis_from_url(url, context), clock=context.clock)

    async def start(self) -> None:
        if not self._started:
            await self._redis.start()
            self._started = True

    async def close(self) -> None:
        if self._started:
            self._started = False
            await self._redis.close()

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
        changes: list[_Change] = []
        size = 0
        for operation in operations:
            if isinstance(operation, Put):
                ttl = default if operation.ttl is None else operation.ttl
                data, body = rules.encode_body(operation.body)
                changes.append(_Change(operation, self._unique(), ttl, data, body))
                size += len(data)
            else:
                changes.append(_Change(operation))
        if not changes:
            return []
        if size > MAX_BATCH_BYTES:
            raise TooLargeError(
                f"a batch of {size} bytes is larger than {MAX_BATCH_BYTES}; split it",
                collection=collection,
                partition=partition,
            )
        expiries = await self._write(collection, partition, changes)
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

    async def _write(self, collection: str, partition: str, changes: Sequence[_Change]) -> Sequence[bytes]:
        """Apply a batch; when each of its documents expires, as the server says it."""
        keys = PartitionKeys.of(self._redis, collection, partition).all
        ticket = NO_TICKET
        if (collection, partition) not in self._opened and any(
            isinstance(change.operation, Put) and change.operation.create_only for change in changes
        ):
            # Whoever creates is often the first in the partition: that saves being told so.
            ticket = await self._register(collection, partition, changes, b"")
        for _ in range(_ATTEMPTS):
            schema = self._partitions.schema(collection)
            arguments: list[Argument] = [self._now(), len(schema), self._unique(), *ticket]
            for change in changes:
                arguments += _arguments(change)
                arguments += (members_of(schema, change.body, change.operation.id) if schema else b"", change.data)
            try:
                reply = await self._redis.run(_WRITE, keys, arguments)
            except StoreUnavailableError as error:
                expiries = await self._applied(keys[0], changes) if error.unknown else None
                if expiries is None:
                    raise
                return expiries
            if reply == 1:
                self._remember(collection, partition)
                return [b""] * len(changes)
            what, *rest = reply
            if what == b"done":
                await self._emptied(collection, partition, rest[0])
                written: list[bytes] = rest[1:]
                return written
            if what == b"conflict":
                found = rest[1] if len(rest) > 1 else None
                refusal = rules.conflict(
                    collection, partition, changes[rest[0]].operation, None if found is None else found.decode()
                )
                assert refusal is not None
                raise refusal
            if what == b"stale":
                await self._partitions.refresh(collection)
            else:
                ticket = await self._register(collection, partition, changes, rest[0])
        raise DocumentError(
            f"{collection}/{partition}: {_ATTEMPTS} attempts to write met others that emptied the partition or added "
            "indexes; try again",
            collection=collection,
            partition=partition,
        )

    async def _register(self, collection: str, partition: str, changes: Sequence[_Change], state: bytes) -> Ticket:
        lives = [change.ttl for change in changes if change.etag]
        longest = None if None in lives else max(ttl for ttl in lives if ttl is not None)
        return await self._partitions.register(collection, partition, longest, state)

    async def _applied(self, key: str, changes: Sequence[_Change]) -> list[bytes] | None:
        """Whether the server has a batch whose reply was lost. ETags are unique, and a batch is whole or absent."""
        if self._redis.options.wait_replicas or self._redis.options.wait_aof:
            return None  # what is not known then is whether it will stay
        puts = [change for change in changes if change.etag]
        if not puts:
            return None
        ids = [change.operation.id for change in puts]
        records = await self._redis.call("HMGET", key, *ids, key=key, repeatable=True)
        found = [(record or b";;").split(b";", 2)[:2] for record in records]
        if not any(etag.decode() == change.etag for (etag, _), change in zip(found, puts, strict=True)):
            return None
        expiries = {id: expires for id, (_, expires) in zip(ids, found, strict=True)}
        return [expiries.get(change.operation.id, b"") for change in changes]

    async def _clean(self, collection: str, scans: Sequence[Scan]) -> None:
        """Some of what the query met and should not meet again. Somebody else will, if this fails."""
        empty = [scan.partition for scan in scans if scan.empty][:_CLEANED]
        stale = [scan.partition for scan in scans if scan.expired][:_CLEANED]
        with contextlib.suppress(StoreUnavailableError):
            if empty:
                await self._partitions.drop_empty(collection, empty)
            await asyncio.gather(*(self._purge(collection, partition) for partition in stale))

    async def _purge(self, collection: str, partition: str) -> None:
        keys = PartitionKeys.of(self._redis, collection, partition).all
        reply = await self._redis.run(_WRITE, keys, [self._now(), 0, self._unique(), *NO_TICKET], repeatable=True)
        if reply != 1:
            await self._emptied(collection, partition, reply[1])

    async def _emptied(self, collection: str, partition: str, token: bytes) -> None:
        """Take the partition off the list if the reply says that it is empty now."""
        if not token:
            self._remember(collection, partition)
            return
        self._opened.discard((collection, partition))
        with contextlib.suppress(StoreUnavailableError):
            await self._partitions.forget(collection, [(partition, token)])

    def _remember(self, collection: str, partition: str) -> None:
        if len(self._opened) >= _KNOWN:
            self._opened.clear()
        self._opened.add((collection, partition))

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


def _arguments(change: _Change) -> tuple[Argument, ...]:
    operation = change.operation
    check = "" if operation.if_match is None else f"={operation.if_match}"
    if isinstance(operation, Put) and operation.create_only:
        check = "+"
    return operation.id, check, change.etag, "" if change.ttl is None else repr(change.ttl)
