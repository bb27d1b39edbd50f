"""Journals, each broken in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from loom.adapters.memory.journal import InMemoryJournalStore
from loom.errors import JournalGapError, PortError, TooLargeError
from loom.ports.journal import Append, Appended, Head, JournalEntry, Snapshot, conflict


class IgnoresExpectedSeq(InMemoryJournalStore):
    """Appends behind whatever the head is."""

    def _append(self, append: Append) -> Appended | PortError:
        head = _head(self, append.stream)
        return super()._append(msgspec.structs.replace(append, expected_seq=head.seq, expected_entry_id=head.entry_id))


class IgnoresEntryId(InMemoryJournalStore):
    """Compares the seq only: after a rollback of the store it appends behind another's entry."""

    def _append(self, append: Append) -> Appended | PortError:
        head = _head(self, append.stream)
        if append.expected_seq == head.seq:
            append = msgspec.structs.replace(append, expected_entry_id=head.entry_id)
        return super()._append(append)


class IsNotIdempotent(InMemoryJournalStore):
    """Reports the repetition of what it has done as a conflict."""

    def _append(self, append: Append) -> Appended | PortError:
        refusal = conflict(append, _head(self, append.stream))
        return super()._append(append) if refusal is None else refusal


class HidesDuplicates(InMemoryJournalStore):
    """Does not say that an append had been done before."""

    def _append(self, append: Append) -> Appended | PortError:
        outcome = super()._append(append)
        return Appended(outcome.seq) if isinstance(outcome, Appended) else outcome


class IgnoresFences(InMemoryJournalStore):
    """Lets a zombie write."""

    def _append(self, append: Append) -> Appended | PortError:
        head = _head(self, append.stream)
        return super()._append(msgspec.structs.replace(append, fence=max(append.fence, head.fence)))


class FailsAllForOneConflict(InMemoryJournalStore):
    """Takes ``append_many`` for a transaction."""

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        outcomes = await super().append_many(appends)
        refusal = next((outcome for outcome in outcomes if not isinstance(outcome, Appended)), None)
        return outcomes if refusal is None else [refusal] * len(outcomes)


class TakesWhatIsTooLarge(InMemoryJournalStore):
    """Names a limit that it does not look at."""

    max_bytes = 1000


class FailsAllForOneTooLarge(InMemoryJournalStore):
    """Refuses a batch of which one append is too large."""

    max_bytes = 1000

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        for append in appends:
            if len(append.data) > self.max_bytes:
                raise TooLargeError(f"{append.stream}: {len(append.data)} bytes")
        return await super().append_many(appends)


class ComparesBeforeItWaits(InMemoryJournalStore):
    """Looks at the head, does something else, and then writes."""

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        fit = [conflict(append, _head(self, append.stream)) is None for append in appends]
        await asyncio.sleep(0)
        outcomes: list[Appended | PortError] = []
        for append, fits in zip(appends, fit, strict=True):
            head = _head(self, append.stream)
            moved = msgspec.structs.replace(append, expected_seq=head.seq, expected_entry_id=head.entry_id)
            outcomes.append(self._append(moved if fits else append))
        return outcomes


class SharesReadsUnderWay(InMemoryJournalStore):
    """Lets a read of the head that has long begun answer those that ask for it now."""

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        under_way: dict[tuple[str, ...], asyncio.Future[list[Head]]] = self.__dict__.setdefault("under_way", {})
        key = tuple(streams)
        if key not in under_way:
            reading = asyncio.ensure_future(self._read_heads(key))
            reading.add_done_callback(lambda _: under_way.pop(key, None))
            under_way[key] = reading
        return list(await asyncio.shield(under_way[key]))

    async def _read_heads(self, streams: tuple[str, ...]) -> list[Head]:
        heads = await super().heads(streams)
        for _ in range(4):
            await asyncio.sleep(0)
        return heads


class ShowsTheHeadBeforeTheEntry(InMemoryJournalStore):
    """Writes the head, and then the entry: who reads in between finds one entry too few."""

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        outcomes = await super().append_many(appends)
        new = {
            (append.stream, outcome.seq)
            for append, outcome in zip(appends, outcomes, strict=True)
            if isinstance(outcome, Appended) and not outcome.duplicate
        }
        unwritten: set[tuple[str, int]] = vars(self._world).setdefault("unwritten", set())
        unwritten |= new
        try:
            await asyncio.sleep(0)
        finally:
            unwritten -= new
        return outcomes

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        unwritten = vars(self._world).get("unwritten", ())
        return [entry for entry in await super().read(stream, after, limit) if (stream, entry.seq) not in unwritten]


class SnapshotsMoveBackwards(InMemoryJournalStore):
    """Keeps the last snapshot written, not the furthest."""

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        found = self._world.streams.get(stream)
        if found is not None:
            found.head = msgspec.structs.replace(found.head, snapshot_seq=0)
        return await super().write_snapshot(stream, snapshot)


class AppendsForgetTheSnapshot(InMemoryJournalStore):
    """Replaces the whole head with each append."""

    def _append(self, append: Append) -> Appended | PortError:
        outcome = super()._append(append)
        if isinstance(outcome, Appended):
            stream = self._world.streams[append.stream]
            stream.head = msgspec.structs.replace(stream.head, snapshot_seq=0)
        return outcome


class TrimsPastTheSnapshot(InMemoryJournalStore):
    """Trims what it is told to trim."""

    async def trim(self, stream: str, through: int) -> int:
        found = self._world.streams.get(stream)
        if found is None:
            return await super().trim(stream, through)
        head = found.head
        found.head = msgspec.structs.replace(head, snapshot_seq=head.seq)
        try:
            return await super().trim(stream, through)
        finally:
            found.head = head


class ReadsOverGaps(InMemoryJournalStore):
    """Gives the entries that are left, as if nothing had been trimmed."""

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        try:
            return await super().read(stream, after, limit)
        except JournalGapError:
            return self._world.streams[stream].entries[:limit]


class PagesByPosition(InMemoryJournalStore):
    """Continues a listing where it stood, though streams have appeared before that place."""

    _position = 0

    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        names = [name for name in self._world.names if name.startswith(prefix)]
        start = self._position if after else 0
        self._position = start + limit
        return names[start : start + limit]


class FoldsCase(InMemoryJournalStore):
    """Stores names in a column that does not tell capitals from small letters."""

    def _append(self, append: Append) -> Appended | PortError:
        return super()._append(msgspec.structs.replace(append, stream=append.stream.lower()))


class IsNotDurable(InMemoryJournalStore):
    """Declares that it is, and keeps everything in the process."""

    async def close(self) -> None:
        self._world.streams.clear()
        self._world.names.clear()


class LosesTheLastWrites(InMemoryJournalStore):
    """Acknowledges an append before it is durable: the last one dies with the process."""

    async def close(self) -> None:
        for stream in self._world.streams.values():
            if not stream.entries:
                continue
            lost = stream.entries.pop()
            before = stream.entries[-1].entry_id if stream.entries else ""
            stream.head = Head(lost.seq - 1, before, lost.fence, stream.head.snapshot_seq)


def _head(store: InMemoryJournalStore, stream: str) -> Head:
    found = store._world.streams.get(stream)
    return Head() if found is None else found.head
