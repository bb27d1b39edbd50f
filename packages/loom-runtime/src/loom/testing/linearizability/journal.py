"""A JournalStore that records its calls, and what a stream does when they come one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ...errors import FencedError, JournalConflictError, JournalError, JournalGapError, PortError
from ...ports.journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot
from .checker import Model
from .operations import UNKNOWN, History, Operation

__all__ = ["JournalModel", "RecordingJournal", "StreamState"]


class RecordingJournal(JournalStore):
    """The client ``name`` of ``store``, whose calls are noted in ``history``, each under the streams that it is about.

    ``append_many`` and ``heads`` are one operation a stream: nothing is promised between streams. ``start`` and
    ``close`` do nothing, as others may use the store as well.
    """

    def __init__(self, store: JournalStore, history: History, name: str) -> None:
        self._store = store
        self._history = history
        self._name = name

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        streams = [append.stream for append in appends]
        with self._history.call(self._name, streams, "append", [(append,) for append in appends]) as flight:
            outcomes = await self._store.append_many(appends)
            flight.answer(*outcomes)
        return outcomes

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        with self._history.call(self._name, streams, "head", [()] * len(streams)) as flight:
            heads = await self._store.heads(streams)
            flight.answer(*heads)
        return heads

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        with self._history.call(self._name, [stream], "read", [(after, limit)]) as flight:
            entries = await self._store.read(stream, after, limit)
            flight.answer(entries)
        return entries

    async def read_snapshot(self, stream: str) -> Snapshot | None:
        with self._history.call(self._name, [stream], "read_snapshot", [()]) as flight:
            snapshot = await self._store.read_snapshot(stream)
            flight.answer(snapshot)
        return snapshot

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        with self._history.call(self._name, [stream], "write_snapshot", [(snapshot,)]) as flight:
            taken = await self._store.write_snapshot(stream, snapshot)
            flight.answer(taken)
        return taken

    async def trim(self, stream: str, through: int) -> int:
        with self._history.call(self._name, [stream], "trim", [(through,)]) as flight:
            count = await self._store.trim(stream, through)
            flight.answer(count)
        return count

    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """Not recorded: it is about no one stream."""
        return await self._store.streams(prefix, after, limit)


class StreamState(msgspec.Struct, frozen=True):
    """A stream: ``entries`` are all that were ever appended, those up to ``trimmed`` included."""

    head: Head = Head()
    entries: tuple[JournalEntry, ...] = ()
    snapshot: Snapshot | None = None
    trimmed: int = 0


class JournalModel(Model[StreamState]):
    """The contract of ``JournalStore`` for one stream.

    A read that races with a trim may give what is being trimmed: the port promises a gap to those that come later.
    """

    initial = StreamState()

    def step(self, state: StreamState, operation: Operation) -> Iterable[StreamState]:
        match operation.method, operation.arguments:
            case "append", (append,):
                after, expected = _append(state, append)
                return [after] if _agrees(expected, operation.result, state.head) else []
            case (("head" | "read" | "read_snapshot"), _) if operation.result is UNKNOWN:
                return []  # it changed nothing and told nothing, so it needs no place in the order
            case "head", ():
                return [state] if operation.result == state.head else []
            case "read", (after, limit):
                return [state] if _reads(state, after, limit, operation.result) else []
            case "read_snapshot", ():
                return [state] if operation.result == state.snapshot else []
            case "write_snapshot", (snapshot,):
                return _write_snapshot(state, snapshot, operation.result)
            case "trim", (through,):
                after = max(state.trimmed, min(through, state.head.snapshot_seq))
                fits = operation.result in (after - state.trimmed, UNKNOWN)
                return [msgspec.structs.replace(state, trimmed=after)] if fits else []
            case method, arguments:
                raise ValueError(f"no call of a journal: {method}{arguments}")


def _append(state: StreamState, append: Append) -> tuple[StreamState, Appended | type[JournalConflictError]]:
    """What becomes of the stream, and what the caller must be told."""
    head, seq = state.head, append.expected_seq + 1
    if (head.seq, head.entry_id) == (append.expected_seq, append.expected_entry_id):
        if append.fence < head.fence:
            return state, FencedError
        entry = JournalEntry(seq, append.entry_id, append.fence, append.data)
        moved = Head(seq, append.entry_id, append.fence, head.snapshot_seq)
        return msgspec.structs.replace(state, head=moved, entries=(*state.entries, entry)), Appended(seq)
    held = 0 < seq <= head.seq and state.entries[seq - 1].entry_id == append.entry_id
    if held and (seq > state.trimmed or seq == head.seq):
        return state, Appended(seq, duplicate=True)
    return state, JournalConflictError


def _agrees(expected: Appended | type[JournalConflictError], result: object, head: Head) -> bool:
    if result is UNKNOWN:
        # One that is refused changes nothing, as one that never arrives: only an effect is worth a place in the order.
        return isinstance(expected, Appended) and not expected.duplicate
    if isinstance(expected, Appended):
        return result == expected
    return isinstance(result, JournalConflictError) and type(result) is expected and result.head == head


def _reads(state: StreamState, after: int, limit: int, result: object) -> bool:
    if isinstance(result, JournalGapError):
        return after < state.trimmed
    return result == list(state.entries[after : after + limit])


def _write_snapshot(state: StreamState, snapshot: Snapshot, result: object) -> list[StreamState]:
    if snapshot.seq > state.head.seq:
        return [state] if isinstance(result, JournalError) else []
    if (state.snapshot is not None and snapshot.seq <= state.snapshot.seq) or snapshot.seq == 0:
        return [state] if result is False else []
    head = state.head
    moved = Head(head.seq, head.entry_id, head.fence, snapshot.seq)
    return [StreamState(moved, state.entries, snapshot, state.trimmed)] if result in (True, UNKNOWN) else []
