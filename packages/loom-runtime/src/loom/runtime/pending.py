"""Pending records: what a shard has in hand, so that whoever takes the shard over can find it.

A record is written before work outlives its delivery (a step, a timer, a message on its way, a run) and removed after
the entry that finishes it. It is a hint: what fires is checked against the journal. A run's record stays, without a
due time, as the run's line in ``loom runs``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from ..clock import Clock
from ..errors import DocumentConflictError, StoreUnavailableError
from ..ports import Collection, Condition, Delete, Document, DocumentStore, Put, Query
from .messages import split_stream

__all__ = ["PENDING", "PendingRecord", "PendingRecords"]

PENDING = Collection("pending", indexes=(("due",), ("since",), ("status", "since"), ("workflow", "since")))
_PATIENCE = 10.0


ENDED = ("completed", "failed", "cancelled")
"""What the status of a run may be when it has ended."""


class PendingRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Work on ``stream`` that is due at ``due`` (Unix time), or a run's line with ``due`` None.

    ``resumed`` counts how often a host has begun to resume it without getting through: a sign of poison.
    """

    stream: str
    due: float | None = None
    resumed: int = 0
    workflow: str | None = None
    status: str | None = None
    since: float | None = None
    ended: float | None = None
    error: str | None = None


Spawn = Callable[[Coroutine[Any, Any, None], str], object]


class PendingRecords:
    """The records of all shards, in one collection partitioned by shard. Records written in one moment go together."""

    def __init__(
        self,
        documents: DocumentStore,
        clock: Clock,
        spawn: Spawn = lambda work, name: asyncio.create_task(work),
    ) -> None:
        self._documents = documents
        self._clock = clock
        self._spawn = spawn
        self._writing: list[tuple[str, Put, asyncio.Future[bool]]] = []

    async def start(self) -> None:
        """Make the collection exist."""
        await self._documents.ensure([PENDING])

    async def put(self, shard: int, record: PendingRecord) -> None:
        """Write or replace the record of a stream; durable when it returns.

        A store that may or may not have taken it (a connection cut, a master replaced) is given it again for ten
        seconds, since to write it twice is to write it once. Raises StoreUnavailableError.
        """
        until, pause = self._clock.monotonic() + _PATIENCE, 0.02
        while True:
            try:
                await self.write(shard, record)
                return
            except StoreUnavailableError as error:
                if not error.unknown or self._clock.monotonic() >= until:
                    raise
            await self._clock.sleep(pause)
            pause = min(pause * 2, 1.0)

    def write(self, shard: int, record: PendingRecord, *, create_only: bool = False) -> asyncio.Future[bool]:
        """Begin to write the record of a stream; the future is True when it is durable.

        With ``create_only`` it is False, and nothing is written, where the stream has a record.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        put = Put(id=record.stream, body=_body(record), create_only=create_only)
        self._writing.append((str(shard), put, future))
        if len(self._writing) == 1:
            self._spawn(self._write(), "loom records")
        return future

    async def _write(self) -> None:
        writing, self._writing = self._writing, []
        try:
            outcomes = await self._documents.batch_many("pending", [(shard, [put]) for shard, put, _ in writing])
        except BaseException as error:
            cause = error if isinstance(error, Exception) else StoreUnavailableError("interrupted", unknown=True)
            for _, _, future in writing:
                if not future.done():
                    future.set_exception(cause)
                    future.exception()  # not everybody waits to hear of it
            if not isinstance(error, Exception):
                raise
            return
        for (_, _, future), outcome in zip(writing, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, list):
                future.set_result(True)
            elif isinstance(outcome, DocumentConflictError):
                future.set_result(False)
            else:
                future.set_exception(outcome)
                future.exception()

    async def remove(self, shard: int, stream: str) -> None:
        """The work is finished."""
        await self._documents.delete("pending", str(shard), stream)

    async def get(self, shard: int, stream: str) -> PendingRecord | None:
        """The record of a stream, or None."""
        found = await self._documents.get("pending", str(shard), stream)
        return None if found is None else msgspec.convert(found.body, PendingRecord)

    async def of_shard(self, shard: int) -> AsyncIterator[PendingRecord]:
        """Every record of a shard that has a due time, earliest first."""
        query = Query(partition=str(shard), where=(Condition("due", ">=", 0),), order_by="due", limit=500)
        async for record in self._all(query):
            yield record

    async def runs(
        self, *, status: str | None = None, workflow: str | None = None, since: float = 0.0, limit: int = 100
    ) -> list[PendingRecord]:
        """Lines of runs that began at or after ``since``, newest first. May lag behind across shards."""
        where = [Condition("since", ">=", since)]
        if workflow is not None:
            where.append(Condition("workflow", "==", workflow))
        elif status is not None:
            where.append(Condition("status", "==", status))
        found: list[PendingRecord] = []
        async for record in self._all(
            Query(where=tuple(where), order_by="since", descending=True, limit=min(limit, 500))
        ):
            if status is None or record.status == status:
                found.append(record)
            if len(found) >= limit:
                break
        return found

    async def due(self) -> AsyncIterator[PendingRecord]:
        """Every record of every shard that has a due time, earliest first. May lag behind across shards."""
        async for record in self._all(Query(where=(Condition("due", ">=", 0),), order_by="due", limit=500)):
            yield record

    async def poisoned(self) -> AsyncIterator[tuple[int, PendingRecord]]:
        """The records that hosts have given up resuming, each with its shard."""
        query = Query(where=(Condition("status", "==", "poisoned"),), limit=500)
        async for document in self._documents_of(query):
            yield int(document.partition), msgspec.convert(document.body, PendingRecord)

    async def redrive(self, shard: int, stream: str, now: float) -> bool:
        """Let hosts resume a poisoned record again, from ``now`` on. False when it is not poisoned (any more)."""
        record = await self.get(shard, stream)
        if record is None or record.status != "poisoned":
            return False
        record.status = None if record.workflow is None else "running"
        record.resumed, record.due = 0, now
        await self.put(shard, record)
        return True

    async def forget_ended(self, shard: int, before: float, limit: int) -> int:
        """Remove up to ``limit`` lines of runs of a shard that ended before ``before`` (Unix time); how many it were.

        A line that changes meanwhile, because the run is retried, stays.
        """
        removed = 0
        for status in ENDED:
            old: list[Delete] = []
            where = (Condition("status", "==", status), Condition("since", "<", before))
            async for found in self._documents_of(
                Query(partition=str(shard), where=where, order_by="since", limit=limit)
            ):
                # A run that began long ago may have ended just now.
                if found.body.get("ended", before) < before and found.body.get("due") is None:
                    old.append(Delete(id=found.id, if_match=found.etag))
                if removed + len(old) >= limit:
                    break
            if not old:
                continue
            try:
                await self._documents.batch("pending", str(shard), old)
            except DocumentConflictError:
                continue
            removed += len(old)
        return removed

    async def _all(self, query: Query) -> AsyncIterator[PendingRecord]:
        async for document in self._documents_of(query):
            yield msgspec.convert(document.body, PendingRecord)

    async def _documents_of(self, query: Query) -> AsyncIterator[Document]:
        while True:
            page = await self._documents.query("pending", query)
            for document in page.documents:
                yield document
            if page.cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.cursor)


def _body(record: PendingRecord) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(record)
    return body


def run_record(stream: str, *, due: float | None, status: str, since: float, **rest: Any) -> PendingRecord:
    """The record of a run: found by workflow, status and start."""
    return PendingRecord(stream=stream, due=due, workflow=split_stream(stream)[1], status=status, since=since, **rest)
