"""Walking through what a query finds: in one partition, and in all of them in one order."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from loom.adapters.document_rules import comparable, matches
from loom.ports.documents import Document, Query

from .channel import Argument
from .client import Redis
from .document_keys import PartitionKeys
from .document_partitions import Partitions
from .document_plan import Cursor, Plan
from .scripts import load_script

__all__ = ["Scan", "Walk", "document_of"]

_READ = load_script("documents_read", writes=False)
_MOST = 1000
_MEMBERS = 10_000
_AT_ONCE = 64


def document_of(partition: str, id: str, record: bytes) -> Document:
    """What a record says: its ETag, when it expires, and the body as JSON."""
    etag, expires, body = record.split(b";", 2)
    return Document(partition, id, msgspec.json.decode(body), etag.decode(), float(expires) if expires else None)


class Scan:
    """One partition, from the cursor on; ``done`` at its end. ``empty`` and ``expired`` say what can be cleaned up."""

    def __init__(
        self, redis: Redis, now: Callable[[], str], collection: str, partition: str, plan: Plan, query: Query,
        cursor: Cursor | None,
    ) -> None:  # fmt: skip
        self.partition = partition
        self.done = False
        self.empty = False
        self.expired = 0
        self._redis = redis
        self._now = now
        self._keys = PartitionKeys.of(redis, collection, partition)
        self._plan = plan
        self._query = query
        self._from, self._to = plan.bounds(partition, cursor)
        self._after = cursor[2] if cursor is not None and cursor[1] == partition else None
        self._ids: deque[str] | None = None

    async def fetch(self, count: int) -> list[Document]:
        """Up to ``count`` more; fewer, or none, do not mean the end."""
        count = min(count, _MOST)
        return await (self._fetch_sorted(count) if self._plan.sorted_by_id else self._fetch(count))

    async def _fetch(self, count: int) -> list[Document]:
        plan, keys = self._plan, self._keys
        arguments: list[Argument] = [
            self._now(), self._from, self._to, int(plan.backwards), count, len(plan.head), int(plan.valued),
        ]  # fmt: skip
        reply = await self._redis.run(_READ, [keys.documents, keys.order], arguments, repeatable=True)
        if reply == -1:
            self.done = self.empty = True
            return []
        expired, last, *found = reply
        self.expired += expired
        if last:
            self._from = b"(" + last
        else:
            self.done = True
        return [
            document_of(self.partition, id.decode(), record) for id, record in zip(found[::2], found[1::2], strict=True)
        ]

    async def _fetch_sorted(self, count: int) -> list[Document]:
        """A range that is wanted by id has to be read whole, though only its ids."""
        if self._ids is None:
            self._ids = deque(await self._find_ids())
        ids = [self._ids.popleft() for _ in range(min(count, len(self._ids)))]
        self.done = not self._ids
        if not ids:
            return []
        key = self._keys.documents
        records, now = await asyncio.gather(
            self._redis.call("HMGET", key, *ids, key=key, repeatable=True), server_time(self._redis, self._now(), key)
        )
        documents = [
            document_of(self.partition, id, record)
            for id, record in zip(ids, records, strict=True)
            if record is not None
        ]
        return [d for d in documents if lives(d, now) and matches(d.body, self._query.where)]

    async def _find_ids(self) -> list[str]:
        plan, key = self._plan, self._keys.order
        first, last = (self._to, self._from) if plan.backwards else (self._from, self._to)
        ids: set[str] = set()
        while True:
            members: list[bytes] = await self._redis.call(
                "ZRANGE", key, first, last, "BYLEX", "LIMIT", 0, _MEMBERS, key=key, repeatable=True
            )
            ids.update(_id_of(member, len(plan.head)) for member in members)
            if len(members) < _MEMBERS:
                break
            first = b"(" + members[-1]
        if self._after is not None:
            after = self._after
            ids = {id for id in ids if (id < after if plan.backwards else id > after)}
        return sorted(ids, reverse=plan.backwards)


class Walk:
    """One page of a query, over one partition or over all. ``scans`` are those that were begun."""

    def __init__(
        self, redis: Redis, now: Callable[[], str], partitions: Partitions, collection: str, plan: Plan, query: Query,
        cursor: Cursor | None,
    ) -> None:  # fmt: skip
        self.scans: list[Scan] = []
        self._partitions = partitions
        self._collection = collection
        self._plan = plan
        self._query = query
        self._cursor = cursor
        self._make: Callable[[str], Scan] = lambda name: Scan(redis, now, collection, name, plan, query, cursor)

    async def read(self, count: int) -> list[Document]:
        """The next ``count`` documents, or all that are left."""
        if self._query.partition is not None:
            return await self._read_one(self._scan(self._query.partition), count)
        return await (self._merge(count) if self._plan.by_value else self._in_turn(count))

    def _scan(self, partition: str) -> Scan:
        scan = self._make(partition)
        self.scans.append(scan)
        return scan

    async def _read_one(self, scan: Scan, count: int) -> list[Document]:
        found: list[Document] = []
        while len(found) < count and not scan.done:
            found += await scan.fetch(count - len(found))
        return found

    async def _in_turn(self, count: int) -> list[Document]:
        """Partition after partition; as many at once as will probably be needed."""
        found: list[Document] = []
        read, at_once = 0, 4
        start = "" if self._cursor is None else self._cursor[1]
        async for names in self._partitions.names(
            self._collection, start=start, backwards=self._plan.backwards, most=10 * _AT_ONCE
        ):
            at = 0
            while at < len(names):
                now = names[at : at + at_once]
                at += len(now)
                for documents in await asyncio.gather(
                    *(self._read_one(self._scan(name), count - len(found)) for name in now)
                ):
                    found += documents
                if len(found) >= count:
                    return found[:count]
                read += len(now)
                at_once = max(1, min(_AT_ONCE, math.ceil((count - len(found)) * read / max(1, len(found)))))
        return found

    async def _merge(self, count: int) -> list[Document]:
        """All partitions side by side: always the one whose next document comes first."""
        names = [name async for some in self._partitions.names(self._collection) for name in some]
        share = min(count, 4 + 2 * count // max(1, len(names)))
        runs = [_Run(self._scan(name), self._query.order_by or "", self._plan.backwards) for name in names]
        for start in range(0, len(runs), _AT_ONCE):
            await asyncio.gather(*(run.fill(share) for run in runs[start : start + _AT_ONCE]))
        heads = [run for run in runs if run.buffer]
        heapq.heapify(heads)
        found: list[Document] = []
        while heads and len(found) < count:
            run = heads[0]
            found.append(run.buffer.popleft()[1])
            if not run.buffer:
                await run.fill(min(count - len(found) + 1, 4 * share))
            if run.buffer:
                heapq.heapreplace(heads, run)
            else:
                heapq.heappop(heads)
        return found


class _Run:
    """A partition in a merge, ordered by its next document."""

    def __init__(self, scan: Scan, order_by: str, backwards: bool) -> None:
        self.buffer: deque[tuple[Any, Document]] = deque()
        self._scan = scan
        self._order_by = order_by
        self._backwards = backwards

    async def fill(self, count: int) -> None:
        while not self.buffer and not self._scan.done:
            for document in await self._scan.fetch(count):
                key = (comparable(document.body.get(self._order_by)), document.partition, document.id)
                self.buffer.append((key, document))

    def __lt__(self, other: _Run) -> bool:
        mine, others = self.buffer[0][0], other.buffer[0][0]
        return bool(mine > others if self._backwards else mine < others)


def lives(document: Document, now: float) -> bool:
    """Whether it has not expired."""
    return document.expires_at is None or document.expires_at > now


async def server_time(redis: Redis, given: str, key: str) -> float:
    """The time that scripts go by: the one given, or the clock of the server of ``key``."""
    if given:
        return float(given)
    seconds, micros = await redis.call("TIME", key=key, repeatable=True)
    return int(seconds) + int(micros) / 1e6


def _id_of(member: bytes, skip: int) -> str:
    """The id after the value that follows the first ``skip`` bytes."""
    kind = member[skip]
    if kind == 0x10:
        at = skip + 11
    elif kind == 0x30:
        at = skip + 2
    else:
        at = member.index(b"\0\0", skip) + 2
    return member[at:].decode()
