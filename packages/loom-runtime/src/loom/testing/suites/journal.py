"""What every JournalStore must do: heads, compare-and-append, snapshots and trimming, names."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from ...errors import (
    FencedError,
    InvalidKeyError,
    JournalConflictError,
    JournalError,
    JournalGapError,
    TooLargeError,
)
from ...plugins.spec import Feature
from ...ports.journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot
from .base import MOST_TESTED, Harness, Suite, limit, scenario
from .journal_crash import JournalCrashSuite
from .journal_races import JournalRaceSuite
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["JournalStoreSuite"]

H = Harness[JournalStore]


def after(stream: str, head: Head, data: bytes = b"x", *, fence: int = 0) -> Append:
    """An append behind ``head`` under a fresh entry id."""
    return Append(stream, head.seq, head.entry_id, secrets.token_hex(8), data, max(fence, head.fence))


async def fill(store: JournalStore, stream: str, count: int) -> list[Append]:
    """Append ``count`` entries with their positions as data; return the appends."""
    head, appends = await store.head(stream), []
    for _ in range(count):
        append = after(stream, head, str(head.seq + 1).encode())
        await store.append(append)
        head = Head(head.seq + 1, append.entry_id, append.fence, head.snapshot_seq)
        appends.append(append)
    return appends


class _Appends(Suite[JournalStore]):
    @scenario()
    async def test_an_unwritten_stream_is_empty(self, h: H) -> None:
        assert await h.adapter.head("s") == Head()
        assert await h.adapter.heads([]) == []
        assert await h.adapter.read("s") == []
        assert await h.adapter.read_snapshot("s") is None
        assert await h.adapter.trim("s", 5) == 0
        assert await h.adapter.streams() == []

    @scenario()
    async def test_an_append_moves_the_head_and_adds_the_entry(self, h: H) -> None:
        assert await h.adapter.append(Append("s", 0, "", "e1", b"one", 7)) == Appended(1)
        assert await h.adapter.append(Append("s", 1, "e1", "e2", b"two", 7)) == Appended(2)
        assert await h.adapter.head("s") == Head(2, "e2", 7, 0)
        assert await h.adapter.heads(["t", "s", "s"]) == [Head(), Head(2, "e2", 7, 0), Head(2, "e2", 7, 0)]
        assert await h.adapter.read("s") == [JournalEntry(1, "e1", 7, b"one"), JournalEntry(2, "e2", 7, b"two")]

    @scenario()
    async def test_a_stale_head_is_a_conflict_that_shows_the_head_found(self, h: H) -> None:
        appends = await fill(h.adapter, "s", 3)
        head = await h.adapter.head("s")
        for seq, entry_id in ((0, ""), (2, appends[1].entry_id), (4, "future"), (3, ""), (0, head.entry_id)):
            with pytest.raises(JournalConflictError) as caught:
                await h.adapter.append(Append("s", seq, entry_id, "new", b""))
            assert caught.value.head == head
            assert not isinstance(caught.value, FencedError)
            assert caught.value.context["stream"] == "s"
        assert await h.adapter.head("s") == head

    @scenario()
    async def test_the_entry_id_is_compared_at_the_same_seq(self, h: H) -> None:
        """A store that lost its last writes and got others has the same seq and another entry there."""
        await h.adapter.append(Append("s", 0, "", "before-rollback", b""))
        with pytest.raises(JournalConflictError):
            await h.adapter.append(Append("s", 1, "after-rollback", "e2", b""))
        assert (await h.adapter.head("s")).seq == 1

    @scenario()
    async def test_repeating_an_append_succeeds_once_and_says_so(self, h: H) -> None:
        appends = await fill(h.adapter, "s", 3)
        for append in appends:
            assert await h.adapter.append(append) == Appended(append.expected_seq + 1, duplicate=True)
        assert len(await h.adapter.read("s")) == 3

    @scenario()
    async def test_a_repeated_append_is_recognised_whatever_its_fence(self, h: H) -> None:
        first = Append("s", 0, "", "e1", b"", 1)
        await h.adapter.append(first)
        await h.adapter.append(Append("s", 1, "e1", "e2", b"", 9))
        assert await h.adapter.append(first) == Appended(1, duplicate=True)
        assert await h.adapter.head("s") == Head(2, "e2", 9, 0)

    @scenario()
    async def test_after_a_trim_only_the_head_is_still_recognised_as_a_duplicate(self, h: H) -> None:
        appends = await fill(h.adapter, "s", 3)
        await h.adapter.write_snapshot("s", Snapshot(3, b"all"))
        assert await h.adapter.trim("s", 3) == 3
        assert await h.adapter.append(appends[2]) == Appended(3, duplicate=True)
        with pytest.raises(JournalConflictError):
            await h.adapter.append(appends[0])
        assert await h.adapter.append(after("s", await h.adapter.head("s"))) == Appended(4)

    @scenario()
    async def test_a_trim_leaves_the_later_duplicates_recognised(self, h: H) -> None:
        appends = await fill(h.adapter, "s", 5)
        await h.adapter.write_snapshot("s", Snapshot(3, b"three"))
        await h.adapter.trim("s", 2)
        for append in appends[2:]:
            assert await h.adapter.append(append) == Appended(append.expected_seq + 1, duplicate=True)
        for append in appends[:2]:
            with pytest.raises(JournalConflictError):
                await h.adapter.append(append)

    @scenario(Feature.FENCING)
    async def test_a_lower_fence_is_refused_and_a_higher_one_stays(self, h: H) -> None:
        await h.adapter.append(Append("s", 0, "", "e1", b"", 5))
        with pytest.raises(FencedError) as caught:
            await h.adapter.append(Append("s", 1, "e1", "e2", b"", 4))
        assert caught.value.head == Head(1, "e1", 5, 0)
        assert await h.adapter.append(Append("s", 1, "e1", "e2", b"", 5)) == Appended(2)
        assert await h.adapter.append(Append("s", 2, "e2", "e3", b"", 8)) == Appended(3)
        assert (await h.adapter.head("s")).fence == 8
        # A stale head is reported as that, whatever the fence.
        with pytest.raises(JournalConflictError) as stale:
            await h.adapter.append(Append("s", 1, "e1", "e9", b"", 1))
        assert not isinstance(stale.value, FencedError)

    @scenario()
    async def test_append_many_gives_each_append_its_own_outcome(self, h: H) -> None:
        await fill(h.adapter, "taken", 1)
        outcomes = await h.adapter.append_many(
            [
                Append("a", 0, "", "a1", b"1"),
                Append("taken", 0, "", "t1", b"2"),
                Append("a", 1, "a1", "a2", b"3"),
                Append("a", 1, "a1", "a3", b"4"),
                Append("b", 0, "", "b1", b"5"),
                Append("a", 0, "", "a1", b"1"),
                Append("a", 2, "a2", "a4", b"6"),
            ]
        )
        kinds = [outcome if isinstance(outcome, Appended) else type(outcome) for outcome in outcomes]
        assert kinds == [
            Appended(1), JournalConflictError, Appended(2), JournalConflictError, Appended(1),
            Appended(1, duplicate=True), Appended(3),
        ]  # fmt: skip
        assert [entry.data for entry in await h.adapter.read("a")] == [b"1", b"3", b"6"]
        assert await h.adapter.append_many([]) == []

    @scenario()
    async def test_append_many_takes_hundreds_of_streams(self, h: H) -> None:
        appends = [Append(f"s{n:04}", 0, "", f"e{n}", str(n).encode()) for n in range(500)]
        assert await h.adapter.append_many(appends) == [Appended(1)] * 500
        heads = await h.adapter.heads([append.stream for append in appends])
        assert [head.entry_id for head in heads] == [append.entry_id for append in appends]

    @scenario()
    async def test_data_of_any_bytes_and_size_comes_back(self, h: H) -> None:
        blobs = [b"", b"\x00", bytes(range(256)), b"\xff" * 1_048_576]
        for data in blobs:
            await h.adapter.append(after("s", await h.adapter.head("s"), data))
        assert [entry.data for entry in await h.adapter.read("s")] == blobs
        await h.adapter.write_snapshot("s", Snapshot(4, blobs[3]))
        assert await h.adapter.read_snapshot("s") == Snapshot(4, blobs[3])

    @scenario()
    async def test_what_is_too_large_is_refused_and_fails_nothing_else(self, h: H) -> None:
        size = limit(h.adapter)
        await fill(h.adapter, "full", 1)
        outcomes = await h.adapter.append_many(
            [
                Append("s", 0, "", "e1", b"1"),
                Append("s", 1, "e1", "e2", bytes(size + 1)),
                Append("t", 0, "", "e1", b"3"),
            ]
        )
        assert outcomes[0] == Appended(1)
        assert isinstance(outcomes[1], TooLargeError)
        assert outcomes[2] == Appended(1)
        assert await h.adapter.append(Append("s", 1, "e1", "e2", b"2")) == Appended(2)
        with pytest.raises(TooLargeError):
            await h.adapter.write_snapshot("full", Snapshot(1, bytes(size + 1)))
        assert (await h.adapter.head("full")).snapshot_seq == 0
        if size <= MOST_TESTED:
            data = b"\xff" * size
            await h.adapter.append(Append("t", 1, "e1", "e2", data))
            assert await h.adapter.write_snapshot("t", Snapshot(2, data))
            [entry], snapshot = await h.adapter.read("t", 1), await h.adapter.read_snapshot("t")
            assert snapshot is not None
            # Not in the assert: a difference of such values would take minutes to print.
            same = entry.data == data == snapshot.data
            assert same

    @scenario()
    async def test_reading_starts_after_a_position_and_stops_at_the_limit(self, h: H) -> None:
        await fill(h.adapter, "s", 5)
        assert [entry.seq for entry in await h.adapter.read("s", 2)] == [3, 4, 5]
        assert [entry.seq for entry in await h.adapter.read("s", 1, 2)] == [2, 3]
        assert await h.adapter.read("s", 5) == []
        assert await h.adapter.read("s", 99) == []


class _Snapshots(Suite[JournalStore]):
    @scenario()
    async def test_snapshots_only_move_forward(self, h: H) -> None:
        await fill(h.adapter, "s", 4)
        assert await h.adapter.write_snapshot("s", Snapshot(2, b"two"))
        assert not await h.adapter.write_snapshot("s", Snapshot(2, b"again"))
        assert not await h.adapter.write_snapshot("s", Snapshot(1, b"older"))
        assert await h.adapter.read_snapshot("s") == Snapshot(2, b"two")
        assert (await h.adapter.head("s")).snapshot_seq == 2
        assert await h.adapter.write_snapshot("s", Snapshot(4, b"four"))
        assert await h.adapter.read_snapshot("s") == Snapshot(4, b"four")

    @scenario()
    async def test_a_snapshot_beyond_the_head_is_an_error(self, h: H) -> None:
        for stream, count in (("empty", 0), ("s", 2)):
            await fill(h.adapter, stream, count)
            with pytest.raises(JournalError):
                await h.adapter.write_snapshot(stream, Snapshot(count + 1, b""))
            assert await h.adapter.read_snapshot(stream) is None

    @scenario()
    async def test_an_append_keeps_the_snapshot(self, h: H) -> None:
        await fill(h.adapter, "s", 2)
        await h.adapter.write_snapshot("s", Snapshot(1, b"one"))
        await fill(h.adapter, "s", 1)
        assert (await h.adapter.head("s")).snapshot_seq == 1

    @scenario()
    async def test_trim_never_passes_the_snapshot_and_keeps_the_head(self, h: H) -> None:
        await fill(h.adapter, "s", 5)
        assert await h.adapter.trim("s", 5) == 0
        await h.adapter.write_snapshot("s", Snapshot(3, b"three"))
        head = await h.adapter.head("s")
        assert await h.adapter.trim("s", 1) == 1
        assert await h.adapter.trim("s", 99) == 2
        assert await h.adapter.trim("s", 3) == 0
        assert await h.adapter.head("s") == head
        assert [entry.seq for entry in await h.adapter.read("s", 3)] == [4, 5]
        with pytest.raises(ValueError, match="-1"):
            await h.adapter.trim("s", -1)

    @scenario()
    async def test_reading_what_was_trimmed_is_a_gap(self, h: H) -> None:
        await fill(h.adapter, "s", 3)
        await h.adapter.write_snapshot("s", Snapshot(3, b"all"))
        await h.adapter.trim("s", 2)
        for position in (0, 1):
            with pytest.raises(JournalGapError) as caught:
                await h.adapter.read("s", position)
            assert caught.value.context["stream"] == "s"
        assert [entry.seq for entry in await h.adapter.read("s", 2)] == [3]
        await h.adapter.trim("s", 3)
        with pytest.raises(JournalGapError):
            await h.adapter.read("s", 2)
        assert await h.adapter.read("s", 3) == []


class _Names(Suite[JournalStore]):
    @scenario()
    async def test_hostile_names_do_not_collide(self, h: H) -> None:
        appends = [Append(name, 0, "", f"id-{n}", name.encode()) for n, name in enumerate(HOSTILE_KEYS)]
        assert await h.adapter.append_many(appends) == [Appended(1)] * len(appends)
        for name in HOSTILE_KEYS:
            assert [entry.data for entry in await h.adapter.read(name)] == [name.encode()]
            assert await h.adapter.write_snapshot(name, Snapshot(1, name.encode()))
        for name in HOSTILE_KEYS:
            assert await h.adapter.read_snapshot(name) == Snapshot(1, name.encode())
        assert await h.adapter.streams() == sorted(HOSTILE_KEYS)

    @scenario()
    async def test_a_hostile_entry_id_is_kept(self, h: H) -> None:
        head = Head()
        for entry_id in HOSTILE_KEYS:
            await h.adapter.append(Append("s", head.seq, head.entry_id, entry_id, b""))
            head = await h.adapter.head("s")
            assert head.entry_id == entry_id
        assert [entry.entry_id for entry in await h.adapter.read("s")] == list(HOSTILE_KEYS)

    @scenario()
    async def test_bad_names_are_refused(self, h: H) -> None:
        for name in BAD_KEYS:
            for call in (
                h.adapter.append(Append(name, 0, "", "e", b"")),
                h.adapter.head(name),
                h.adapter.read(name),
                h.adapter.read_snapshot(name),
                h.adapter.write_snapshot(name, Snapshot(0, b"")),
                h.adapter.trim(name, 0),
            ):
                with pytest.raises(InvalidKeyError):
                    await call
        assert await h.adapter.streams() == []

    @scenario()
    async def test_streams_are_listed_by_prefix_in_code_point_order(self, h: H) -> None:
        names = ["actor/A/1", "actor/A/2", "actor/B/1", "actor_x", "actor%", "b", "\uffee", "😀"]
        await h.adapter.append_many([Append(name, 0, "", "e", b"") for name in names])
        assert await h.adapter.streams() == sorted(names)
        assert await h.adapter.streams("actor/") == ["actor/A/1", "actor/A/2", "actor/B/1"]
        assert await h.adapter.streams("actor_") == ["actor_x"]
        assert await h.adapter.streams("actor%") == ["actor%"]
        assert await h.adapter.streams("actor/A/", "actor/A/1") == ["actor/A/2"]
        assert await h.adapter.streams("actor/A/", "a") == ["actor/A/1", "actor/A/2"]
        assert await h.adapter.streams(limit=2) == sorted(names)[:2]
        assert await h.adapter.streams("nothing") == []

    @scenario()
    async def test_paging_lists_every_old_stream_once_while_others_appear(self, h: H) -> None:
        old = [f"s{n:03}" for n in range(0, 200, 2)]
        await h.adapter.append_many([Append(name, 0, "", "e", b"") for name in old])
        fresh = iter(range(1, 200, 2))

        async def write() -> None:
            for n in fresh:
                await h.adapter.append(Append(f"s{n:03}", 0, "", "e", b""))
                await h.adapter.append(after("s000", await h.adapter.head("s000")))
                await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        seen: list[str] = []
        while page := await h.adapter.streams("s", seen[-1] if seen else "", 7):
            seen += page
            await asyncio.sleep(0)
        await writer
        assert [name for name in seen if name in set(old)] == old
        assert len(seen) == len(set(seen))


class JournalStoreSuite(_Appends, _Snapshots, _Names, JournalRaceSuite, JournalCrashSuite):
    """Everything that a JournalStore must do. Override ``harness``; see ``loom.testing.suites.base``."""
