"""Journals under concurrency: racing writers, cancelled callers."""

from __future__ import annotations

import asyncio
import contextlib

from ...plugins.spec import Feature
from ...ports.journal import Append, Appended, Head, JournalStore, Snapshot
from ..linearizability import History, JournalModel, RecordingJournal, check, drive_journal
from .base import Harness, Suite, eventually, scenario

__all__ = ["JournalRaceSuite"]

H = Harness[JournalStore]


class JournalRaceSuite(Suite[JournalStore]):
    """One position, one winner."""

    @scenario()
    async def test_concurrent_histories_are_linearizable(self, h: H) -> None:
        """Whatever several clients do at once, an order of their calls explains all that they were told."""
        await _check_histories(h, fencing=False)

    @scenario(Feature.FENCING)
    async def test_concurrent_histories_with_fences_are_linearizable(self, h: H) -> None:
        await _check_histories(h, fencing=True)

    @scenario()
    async def test_of_racing_writers_exactly_one_wins_each_position(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        head = Head()
        for round_ in range(150):
            appends = [Append("s", head.seq, head.entry_id, f"{round_}-{n}", str(n).encode()) for n in range(4)]
            results = await asyncio.gather(
                *(clients[n % 2].append(append) for n, append in enumerate(appends)), return_exceptions=True
            )
            winners = [n for n, result in enumerate(results) if isinstance(result, Appended)]
            assert len(winners) == 1, results
            losers = [result for result in results if not isinstance(result, Appended)]
            head = await clients[round_ % 2].head("s")
            assert head == Head(round_ + 1, appends[winners[0]].entry_id, 0, 0)
            assert all(getattr(loser, "head", None) == head for loser in losers)
        entries = await clients[1].read("s")
        assert [entry.seq for entry in entries] == list(range(1, 151))

    @scenario()
    async def test_a_client_sees_at_once_what_another_was_told(self, h: H) -> None:
        other = await h.second()
        head = Head()
        for n in range(50):
            await h.adapter.append(Append("s", head.seq, head.entry_id, f"e{n}", b""))
            head = await other.head("s")
            assert head.entry_id == f"e{n}"
        await other.write_snapshot("s", Snapshot(50, b"all"))
        assert await h.adapter.read_snapshot("s") == Snapshot(50, b"all")

    @scenario()
    async def test_the_same_append_sent_twice_at_once_is_added_once(self, h: H) -> None:
        other = await h.second()
        for n in range(50):
            append = Append(f"s{n}", 0, "", "e", b"x")
            outcomes = await asyncio.gather(h.adapter.append(append), other.append(append))
            assert sorted(outcome.duplicate for outcome in outcomes) == [False, True]
            assert len(await h.adapter.read(f"s{n}")) == 1

    @scenario()
    async def test_a_snapshot_and_appends_at_once_lose_neither(self, h: H) -> None:
        other = await h.second()
        head = Head()
        for n in range(1, 60):
            append = Append("s", head.seq, head.entry_id, f"e{n}", b"")
            await asyncio.gather(h.adapter.append(append), other.write_snapshot("s", Snapshot(n - 1, b"%d" % (n - 1))))
            head = await h.adapter.head("s")
            assert head == Head(n, f"e{n}", 0, n - 1)

    @scenario()
    async def test_a_cancelled_append_is_whole_or_absent(self, h: H) -> None:
        for n in range(60):
            stream = f"s{n}"
            task = asyncio.ensure_future(
                h.adapter.append_many([Append(stream, 0, "", "e1", b"1"), Append(stream, 1, "e1", "e2", b"2")])
            )
            for _ in range(n % 6):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            # Whatever became of it, repeating it settles the matter.
            again = await h.adapter.append_many(
                [Append(stream, 0, "", "e1", b"1"), Append(stream, 1, "e1", "e2", b"2")]
            )
            assert [getattr(outcome, "seq", outcome) for outcome in again] == [1, 2]
            entries = await h.adapter.read(stream)
            assert [(entry.seq, entry.data) for entry in entries] == [(1, b"1"), (2, b"2")]
            assert await h.adapter.head(stream) == Head(2, "e2", 0, 0)

    @scenario()
    async def test_the_adapter_works_on_after_many_cancelled_calls(self, h: H) -> None:
        tasks = [asyncio.ensure_future(h.adapter.append(Append(f"c{n}", 0, "", "e", b""))) for n in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for n in range(1, 100, 2):
            assert (await h.adapter.head(f"c{n}")).seq == 1
        await eventually(lambda: h.adapter.append(Append("last", 0, "", "e", b"")), "an append after cancelled ones")


async def _check_histories(h: H, *, fencing: bool) -> None:
    stores = [h.adapter, await h.second()]
    for seed in range(5):
        history = History(h.now)
        clients = [RecordingJournal(stores[n % 2], history, f"client {n}") for n in range(4)]
        await drive_journal(clients, [f"s{seed}", f"t{seed}"], seed=seed, fencing=fencing)
        for verdict in check(history, JournalModel()):
            assert verdict.linearizable, str(verdict)
