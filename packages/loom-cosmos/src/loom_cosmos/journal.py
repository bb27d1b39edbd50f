"""A journal in Cosmos DB."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from loom.clock import Clock
from loom.errors import InvalidKeyError, JournalError, JournalGapError, PortError, StoreUnavailableError, TooLargeError
from loom.ports.journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot, conflict
from loom.ports.port import check_key

from .adapter import CosmosAdapter
from .client import Cosmos, Item, Write, create, delete, replace, upsert
from .containers import JOURNAL
from .failures import Refused
from .journal_items import (
    HEAD,
    MAX_DATA_BYTES,
    SNAPSHOT,
    Stood,
    corrupt,
    entry_id,
    entry_of,
    item_of_entry,
    item_of_head,
    item_of_snapshot,
    snapshot_of,
    stood_of,
)
from .names import ordered, partition_key

__all__ = ["CosmosJournalStore"]

_ATTEMPTS = 100
_HEADS_KEPT = 10_000
_DELETES = 99
"""Entries trimmed in a batch: with the head it has the 100 operations that Cosmos takes."""


class CosmosJournalStore(CosmosAdapter, JournalStore):
    """A JournalStore in one container; a stream is a logical partition with its head, its snapshot and its entries.

    An append is one transactional batch: the head is replaced if it still has the ETag that was seen, and the entry
    is created. So it is one request for whoever wrote the stream last or has read its head, and correct whatever was
    seen: what has changed meanwhile refuses the batch, and the head is read again before a conflict is reported. When
    a connection breaks, the entry's id says afterwards whether it was added. An entry or a snapshot has up to
    1,400,000 bytes, and a stream up to the 20 GB of a logical partition between two trims.

    ``heads`` shows every append reported before where the account's consistency is strong (or bounded staleness in
    one region). With session consistency a head that another host has moved may be shown late, for a moment: an append
    behind it is refused all the same, and whoever was refused reads again. ``streams`` goes over all partitions and is
    for tools.
    """

    container = JOURNAL
    max_bytes = MAX_DATA_BYTES

    def __init__(self, cosmos: Cosmos, *, clock: Clock | None = None) -> None:
        """``clock`` is accepted as every adapter accepts it; a journal asks nobody for the time."""
        super().__init__(cosmos, clock=clock)
        self._known: OrderedDict[str, Stood] = OrderedDict()

    async def _drain(self) -> None:
        self._known.clear()

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        """Streams at once, ``concurrency`` of the URL at most; appends to one stream one after the other.

        Raises StoreUnavailableError when the store failed for one of several; then others may have taken effect, and
        it says ``unknown=True``.
        """
        outcomes: list[Appended | PortError] = [PortError()] * len(appends)
        streams: dict[str, list[int]] = {}
        for index, append in enumerate(appends):
            streams.setdefault(append.stream, []).append(index)
        bound = asyncio.Semaphore(self._cosmos.options.concurrency)

        async def go_through(indexes: list[int]) -> None:
            async with bound:
                for index in indexes:
                    try:
                        outcomes[index] = await self._append(appends[index])
                    except StoreUnavailableError:
                        raise
                    except PortError as error:
                        outcomes[index] = error

        if len(streams) == 1:
            await go_through(next(iter(streams.values())))
            return outcomes
        results = await asyncio.gather(*map(go_through, streams.values()), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise _as_a_whole(failures)
        return outcomes

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        for stream in streams:
            check_key("stream", stream)
        bound = asyncio.Semaphore(self._cosmos.options.concurrency)

        async def look(stream: str) -> Head:
            async with bound:
                return (await self._look(stream)).head

        if len(streams) == 1:
            return [await look(streams[0])]
        found = dict(zip(dict.fromkeys(streams), await asyncio.gather(*map(look, dict.fromkeys(streams))), strict=True))
        return [found[stream] for stream in streams]

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        check_key("stream", stream)
        after = max(0, after)
        if limit < 1:
            return []
        text = "SELECT * FROM c WHERE c.pk = @pk AND c.n > @after ORDER BY c.n ASC"
        pk = self._pk(stream)
        items = await self._cosmos.query(JOURNAL, text, {"@pk": pk, "@after": after}, pk=pk, limit=limit)
        entries = [entry_of(stream, item) for item in items]
        for position, entry in enumerate(entries, after + 1):
            if entry.seq != position:
                await self._explain(stream, position)
        if not entries:
            await self._explain(stream, after + 1)
        return entries

    async def read_snapshot(self, stream: str) -> Snapshot | None:
        check_key("stream", stream)
        item = await self._cosmos.read(JOURNAL, self._pk(stream), SNAPSHOT)
        return None if item is None else snapshot_of(stream, item)

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        check_key("stream", stream)
        if len(snapshot.data) > MAX_DATA_BYTES:
            raise _too_large(stream, snapshot.seq, "a snapshot", len(snapshot.data))
        mine = False
        for _ in range(_ATTEMPTS):
            known = self._known.get(stream)
            stood = known or await self._look(stream)
            if snapshot.seq > stood.head.seq and known is not None:
                stood = await self._look(stream)
            head = stood.head
            if snapshot.seq > head.seq:
                raise JournalError(
                    f"{stream}: a snapshot at {snapshot.seq} lies beyond the head at {head.seq}",
                    stream=stream,
                    seq=snapshot.seq,
                )
            if snapshot.seq <= head.snapshot_seq:
                # After an answer that was lost: one at this position that was not there before is taken for ours.
                return mine and snapshot.seq == head.snapshot_seq
            pk = self._pk(stream)
            moved = Head(head.seq, head.entry_id, head.fence, snapshot.seq)
            writes = [upsert(item_of_snapshot(pk, stream, snapshot))]
            try:
                if await self._move(stream, stood, moved, stood.trimmed, writes):
                    return True
            except StoreUnavailableError as error:
                if not error.unknown:
                    raise
                mine = True
        raise _contended(stream)

    async def trim(self, stream: str, through: int) -> int:
        check_key("stream", stream)
        if through < 0:
            raise ValueError(f"trim(through={through}): positions are not negative")
        deleted = failures = 0
        for _ in range(_ATTEMPTS):
            stood = await self._look(stream)
            last = min(through, stood.head.snapshot_seq)
            while stood.trimmed < last:
                end = min(last, stood.trimmed + _DELETES)
                writes = [delete(entry_id(seq)) for seq in range(stood.trimmed + 1, end + 1)]
                try:
                    moved = await self._move(stream, stood, stood.head, end, writes)
                except StoreUnavailableError as error:
                    failures += 1
                    if not error.unknown or failures > 3:
                        raise
                    break
                if not moved:
                    break
                deleted += end - stood.trimmed
                stood = self._known[stream]
            else:
                return deleted
        raise _contended(stream)

    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        if limit < 1:
            return []
        clauses, parameters = ["c.ns = @ns"], {"@ns": self._cosmos.options.namespace}
        if prefix:
            clauses.append("c.s >= @first AND c.s < @beyond")
            # What begins with the prefix goes on with characters below this one, or ends.
            parameters |= {"@first": ordered(prefix), "@beyond": f"{ordered(prefix)}\x7f"}
        if after:
            clauses.append("c.s > @after")
            parameters["@after"] = ordered(after)
        text = f"SELECT c.stream FROM c WHERE {' AND '.join(clauses)} ORDER BY c.s ASC"
        found = await self._cosmos.query(JOURNAL, text, parameters, pk=None, limit=limit)
        return [item["stream"] for item in found]

    async def _append(self, append: Append) -> Appended | PortError:
        stream, seq = append.stream, append.expected_seq + 1
        try:
            check_key("stream", stream)
            check_key("entry_id", append.entry_id)
        except InvalidKeyError as error:
            return error
        if len(append.data) > MAX_DATA_BYTES:
            return _too_large(stream, seq, "an entry", len(append.data))
        lost = 0
        for _ in range(_ATTEMPTS):
            known = self._known.get(stream)
            stood = known or await self._look(stream)
            refusal = conflict(append, stood.head)
            if refusal is not None and known is not None:
                # What was seen earlier may send a batch, and never decides that one is refused.
                stood = await self._look(stream)
                refusal = conflict(append, stood.head)
            if refusal is not None:
                holds = await self._holds(append, stood)
                return Appended(seq, duplicate=True) if holds else refusal
            head = Head(seq, append.entry_id, append.fence, stood.head.snapshot_seq)
            try:
                if await self._move(
                    stream, stood, head, stood.trimmed, [create(item_of_entry(self._pk(stream), append))]
                ):
                    return Appended(seq)
            except StoreUnavailableError as error:
                lost += 1
                if not error.unknown or lost > 3:
                    raise
        raise _contended(stream)

    async def _holds(self, append: Append, stood: Stood) -> bool:
        """Whether the entry at the append's position is this one."""
        seq, head = append.expected_seq + 1, stood.head
        if seq == head.seq:
            return append.entry_id == head.entry_id
        if not stood.trimmed < seq < head.seq:
            return False
        item = await self._cosmos.read(JOURNAL, self._pk(append.stream), entry_id(seq))
        return item is not None and item.get("entry_id") == append.entry_id

    async def _move(self, stream: str, stood: Stood, head: Head, trimmed: int, writes: Sequence[Write]) -> bool:
        """Replace the head that ``stood``, together with ``writes``; False when it is another now."""
        item = item_of_head(self._pk(stream), self._cosmos.options.namespace, stream, head, trimmed)
        first = replace(item, stood.etag) if stood.etag else create(item)
        self._known.pop(stream, None)  # until the outcome is known
        try:
            etags = await self._cosmos.write(JOURNAL, self._pk(stream), [first, *writes])
        except Refused as refused:
            if refused.index:
                await self._explain_refused(stream, stood, refused)
            return False
        self._keep(stream, Stood(head, etags[0], trimmed))
        return True

    async def _explain_refused(self, stream: str, stood: Stood, refused: Refused) -> None:
        """The head was as expected, and the entry was not: somebody has touched the items from outside."""
        if (await self._look(stream)).etag == stood.etag:
            raise corrupt(stream, stood.head.seq + 1, f"is not as the head says (status {refused.status})") from refused

    async def _explain(self, stream: str, position: int) -> None:
        """Raise what it means that no entry is at a position: nothing, a gap, or damage."""
        stood = await self._look(stream)
        if position > stood.head.seq:
            return
        if position <= stood.trimmed:
            raise JournalGapError(
                f"{stream}: entry {position} has been trimmed; read the snapshot at {stood.head.snapshot_seq} "
                "and continue from there",
                stream=stream,
                seq=position,
            )
        if await self._cosmos.read(JOURNAL, self._pk(stream), entry_id(position)) is None:
            raise corrupt(stream, position, "is missing")

    async def _look(self, stream: str) -> Stood:
        item: Item | None = await self._cosmos.read(JOURNAL, self._pk(stream), HEAD)
        stood = stood_of(item)
        self._keep(stream, stood)
        return stood

    def _keep(self, stream: str, stood: Stood) -> None:
        self._known[stream] = stood
        self._known.move_to_end(stream)
        if len(self._known) > _HEADS_KEPT:
            self._known.popitem(last=False)

    def _pk(self, stream: str) -> str:
        return partition_key(self._cosmos.options.namespace, "journal", stream)


def _as_a_whole(failures: Sequence[BaseException]) -> BaseException:
    """The one error for several: unknown as soon as one of them is, for the caller reads all the heads then."""
    for failure in failures:
        if not isinstance(failure, StoreUnavailableError) or failure.unknown:
            return failure
    first = failures[0]
    assert isinstance(first, StoreUnavailableError)
    # Appends to other streams have succeeded meanwhile, and nobody was told.
    return StoreUnavailableError(str(first), unknown=True, **{k: v for k, v in first.context.items() if k != "unknown"})


def _too_large(stream: str, seq: int, what: str, size: int) -> TooLargeError:
    return TooLargeError(
        f"{stream}: {what} of {size} bytes at {seq} is larger than the {MAX_DATA_BYTES} that fit into a transaction of "
        "Cosmos DB; keep large values in a BlobStore",
        stream=stream,
        seq=seq,
        size=size,
    )


def _contended(stream: str) -> JournalError:
    return JournalError(f"{stream}: {_ATTEMPTS} attempts in a row met another writer; try again", stream=stream)
