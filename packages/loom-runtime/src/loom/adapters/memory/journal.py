"""A journal in the memory of this process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Self

from ...clock import Clock
from ...errors import InvalidKeyError, JournalError, JournalGapError, PortError
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot, conflict
from ...ports.port import check_key
from .ephemeral import warn_if_production

__all__ = ["InMemoryJournalStore"]


class _Stream:
    __slots__ = ("entries", "head", "snapshot")

    def __init__(self) -> None:
        self.head = Head()
        self.entries: list[JournalEntry] = []
        self.snapshot: Snapshot | None = None


class _World:
    """The data, apart from the adapter: several adapters may show one world."""

    def __init__(self) -> None:
        self.streams: dict[str, _Stream] = {}
        self.names: list[str] = []


class InMemoryJournalStore(JournalStore):
    """A JournalStore that lives as long as the process: for tests and for trying things out."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        """``clock`` is accepted as every adapter accepts it; a journal asks nobody for the time."""
        warn_if_production(type(self).__name__)
        self._world = _World()

    @classmethod
    def sharing(cls, other: InMemoryJournalStore) -> Self:
        """Another client of the data of ``other``."""
        store = cls()
        store._world = other._world
        return store

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        store = cls(clock=context.clock)
        store._world = context.shared(f"memory:journal:{url.host}{url.path}", _World)
        return store

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        return [self._append(append) for append in appends]

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        for name in streams:
            check_key("stream", name)
        return [self._world.streams[name].head if name in self._world.streams else Head() for name in streams]

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        check_key("stream", stream)
        found = self._world.streams.get(stream)
        after = max(0, after)
        if found is None or after >= found.head.seq:
            return []
        trimmed = found.head.seq - len(found.entries)
        if after < trimmed:
            raise JournalGapError(
                f"{stream}: entry {after + 1} has been trimmed; read the snapshot at {found.head.snapshot_seq} "
                "and continue from there",
                stream=stream,
                seq=after + 1,
            )
        start = after - trimmed
        return found.entries[start : start + max(0, limit)]

    async def read_snapshot(self, stream: str) -> Snapshot | None:
        check_key("stream", stream)
        found = self._world.streams.get(stream)
        return None if found is None else found.snapshot

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        check_key("stream", stream)
        found = self._world.streams.get(stream)
        head = Head() if found is None else found.head
        if snapshot.seq > head.seq:
            raise JournalError(
                f"{stream}: a snapshot at {snapshot.seq} lies beyond the head at {head.seq}",
                stream=stream,
                seq=snapshot.seq,
            )
        if found is None or snapshot.seq <= head.snapshot_seq:
            return False
        found.snapshot = Snapshot(snapshot.seq, bytes(snapshot.data))
        found.head = Head(head.seq, head.entry_id, head.fence, snapshot.seq)
        return True

    async def trim(self, stream: str, through: int) -> int:
        check_key("stream", stream)
        if through < 0:
            raise ValueError(f"trim(through={through}): positions are not negative")
        found = self._world.streams.get(stream)
        if found is None:
            return 0
        trimmed = found.head.seq - len(found.entries)
        count = max(0, min(through, found.head.snapshot_seq) - trimmed)
        del found.entries[:count]
        return count

    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        names = self._world.names
        start = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
        page = []
        for index in range(start, min(len(names), start + max(0, limit))):
            if not names[index].startswith(prefix):
                break
            page.append(names[index])
        return page

    def _append(self, append: Append) -> Appended | PortError:
        try:
            check_key("stream", append.stream)
            check_key("entry_id", append.entry_id)
        except InvalidKeyError as error:
            return error
        found = self._world.streams.get(append.stream)
        head = Head() if found is None else found.head
        seq = append.expected_seq + 1
        refusal = conflict(append, head)
        if refusal is not None:
            return Appended(seq, duplicate=True) if self._holds(found, seq, append.entry_id) else refusal
        if found is None:
            found = self._world.streams[append.stream] = _Stream()
            insort(self._world.names, append.stream)
        found.entries.append(JournalEntry(seq, append.entry_id, append.fence, bytes(append.data)))
        found.head = Head(seq, append.entry_id, append.fence, head.snapshot_seq)
        return Appended(seq)

    @staticmethod
    def _holds(found: _Stream | None, seq: int, entry_id: str) -> bool:
        if found is None:
            return False
        if seq == found.head.seq:
            return entry_id == found.head.entry_id
        index = seq - 1 - (found.head.seq - len(found.entries))
        return 0 <= index < len(found.entries) and found.entries[index].entry_id == entry_id
