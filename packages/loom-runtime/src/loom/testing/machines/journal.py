"""A JournalStore against a list of entries, a head and a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ...errors import FencedError, JournalConflictError, JournalError, JournalGapError
from ...ports.journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot
from .base import AdapterMachine

__all__ = ["journal_machine"]

STREAMS = ("a", "a/", "ß\x00")
streams = st.sampled_from(STREAMS)


class _Model:
    """One stream, in the plainest way that can be said."""

    def __init__(self) -> None:
        self.head = Head()
        self.entries: dict[int, JournalEntry] = {}
        self.snapshot: Snapshot | None = None

    def append(self, append: Append) -> Appended | type[JournalError]:
        head, seq = self.head, append.expected_seq + 1
        if (head.seq, head.entry_id) == (append.expected_seq, append.expected_entry_id):
            if append.fence < head.fence:
                return FencedError
            self.entries[seq] = JournalEntry(seq, append.entry_id, append.fence, append.data)
            self.head = Head(seq, append.entry_id, append.fence, head.snapshot_seq)
            return Appended(seq)
        known = self.entries[seq].entry_id if seq in self.entries else head.entry_id if seq == head.seq else None
        return Appended(seq, duplicate=True) if known == append.entry_id else JournalConflictError


class _JournalMachine(AdapterMachine[JournalStore]):
    def __init__(self, open_adapter: Callable[[], JournalStore]) -> None:
        super().__init__(open_adapter)
        self.model = {stream: _Model() for stream in STREAMS}
        self.sent: list[Append] = []

    def fresh(self, stream: str, back: int, wrong_id: bool, fence: int, data: bytes) -> Append:
        head = self.model[stream].head
        append = Append(
            stream, max(0, head.seq - back), "other" if wrong_id else head.entry_id, f"e{len(self.sent)}", data, fence
        )
        self.sent.append(append)
        return append

    @rule(
        calls=st.lists(
            st.tuples(streams, st.sampled_from([0, 0, 0, 1]), st.sampled_from([False, False, False, True]),
                      st.integers(0, 3), st.binary(max_size=5)),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    def append_many(self, calls: list[tuple[str, int, bool, int, bytes]]) -> None:
        appends = [self.fresh(*call) for call in calls]
        expected = [self.model[append.stream].append(append) for append in appends]
        self.compare(self.run(self.adapter.append_many(appends)), expected)

    @rule(stream=streams, data=st.binary(max_size=5))
    def append_at_the_head(self, stream: str, data: bytes) -> None:
        append = self.fresh(stream, 0, False, self.model[stream].head.fence, data)
        expected = self.model[stream].append(append)
        assert self.run(self.adapter.append(append)) == expected

    @rule(index=st.integers(0, 1000))
    def repeat(self, index: int) -> None:
        if self.sent:
            append = self.sent[index % len(self.sent)]
            self.compare(self.run(self.adapter.append_many([append])), [self.model[append.stream].append(append)])

    @rule(stream=streams, seq=st.integers(0, 12), data=st.binary(max_size=3))
    def write_snapshot(self, stream: str, seq: int, data: bytes) -> None:
        model = self.model[stream]
        if seq > model.head.seq:
            try:
                self.run(self.adapter.write_snapshot(stream, Snapshot(seq, data)))
            except JournalError:
                return
            raise AssertionError(f"a snapshot at {seq} beyond {model.head} was taken")
        newer = seq > model.head.snapshot_seq
        assert self.run(self.adapter.write_snapshot(stream, Snapshot(seq, data))) is newer
        if newer:
            model.snapshot = Snapshot(seq, data)
            model.head = Head(model.head.seq, model.head.entry_id, model.head.fence, seq)

    @rule(stream=streams, through=st.integers(0, 12))
    def trim(self, stream: str, through: int) -> None:
        model = self.model[stream]
        gone = [seq for seq in model.entries if seq <= min(through, model.head.snapshot_seq)]
        for seq in gone:
            del model.entries[seq]
        assert self.run(self.adapter.trim(stream, through)) == len(gone)

    @rule(stream=streams, after=st.integers(0, 12), limit=st.integers(1, 5))
    def read(self, stream: str, after: int, limit: int) -> None:
        model = self.model[stream]
        if after < model.head.seq and after + 1 not in model.entries:
            try:
                self.run(self.adapter.read(stream, after, limit))
            except JournalGapError:
                return
            raise AssertionError(f"entry {after + 1} is trimmed and reading it raised no gap")
        expected = [entry for seq, entry in sorted(model.entries.items()) if seq > after][:limit]
        assert self.run(self.adapter.read(stream, after, limit)) == expected

    @invariant()
    def heads_and_snapshots_agree(self) -> None:
        assert self.run(self.adapter.heads(STREAMS)) == [self.model[stream].head for stream in STREAMS]
        for stream in STREAMS:
            assert self.run(self.adapter.read_snapshot(stream)) == self.model[stream].snapshot
        written = sorted(stream for stream in STREAMS if self.model[stream].head.seq)
        assert self.run(self.adapter.streams()) == written

    @staticmethod
    def compare(outcomes: list[Any], expected: list[Appended | type[JournalError]]) -> None:
        assert [outcome if isinstance(outcome, Appended) else type(outcome) for outcome in outcomes] == expected


def journal_machine(open_adapter: Callable[[], JournalStore]) -> type[RuleBasedStateMachine]:
    """A machine for adapters that ``open_adapter()`` builds, unstarted and each over empty data."""

    class JournalMachine(_JournalMachine):
        def __init__(self) -> None:
            super().__init__(open_adapter)

    return JournalMachine
