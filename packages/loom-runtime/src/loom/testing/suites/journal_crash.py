"""Journals across the end of a client, of a process, and between processes."""

from __future__ import annotations

import asyncio

from ...errors import JournalConflictError
from ...plugins.spec import Durability, Reach
from ...ports.journal import Append, Head, JournalStore, Snapshot
from ..linearizability import JournalModel, check
from .base import Harness, Suite, scenario
from .child import report, run_child
from .histories import journal_histories

__all__ = ["JournalCrashSuite"]

H = Harness[JournalStore]


async def append_and_report(store: JournalStore) -> None:
    """Child: append to eight streams for ever, and report each entry once it is acknowledged."""

    async def write(stream: str) -> None:
        head = Head()
        while True:
            append = Append(stream, head.seq, head.entry_id, f"{stream}-{head.seq + 1}", b"x" * 100, 1)
            await store.append(append)
            head = Head(head.seq + 1, append.entry_id)
            report([stream, head.seq, head.entry_id])
            if head.seq % 10 == 0:
                await store.write_snapshot(stream, Snapshot(head.seq - 5, b"snapshot"))
                await store.trim(stream, head.seq - 7)
                report([stream, -(head.seq - 5), ""])

    await asyncio.gather(*(write(f"s{n}") for n in range(8)))


async def race_and_report(store: JournalStore, name: str, target: str) -> None:
    """Child: append to one stream against others until it is ``target`` long, and report the positions won."""
    head = await store.head("contended")
    while head.seq < int(target):
        try:
            won = await store.append(
                Append("contended", head.seq, head.entry_id, f"{name}-{head.seq + 1}", name.encode())
            )
        except JournalConflictError as conflict:
            head = conflict.head
        else:
            report(won.seq)
            head = Head(won.seq, f"{name}-{won.seq}")


class JournalCrashSuite(Suite[JournalStore]):
    """What was acknowledged is there afterwards."""

    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        await h.adapter.append_many([Append(f"s{n}", 0, "", f"e{n}", b"%d" % n, n) for n in range(20)])
        await h.adapter.append(Append("s1", 1, "e1", "e1b", b"more", 4))
        await h.adapter.write_snapshot("s1", Snapshot(1, b"snap"))
        await h.adapter.trim("s1", 1)
        store = await h.reopen()
        assert await store.head("s1") == Head(2, "e1b", 4, 1)
        assert await store.read_snapshot("s1") == Snapshot(1, b"snap")
        assert [entry.data for entry in await store.read("s1", 1)] == [b"more"]
        assert len(await store.streams()) == 20
        for n in range(2, 20):
            assert await store.head(f"s{n}") == Head(1, f"e{n}", n, 0)

    @scenario(durability=Durability.PROCESS, url=True)
    async def test_what_a_killed_process_had_acknowledged_is_there(self, h: H) -> None:
        assert h.url is not None
        async with run_child(append_and_report, await h.leave(), h.url) as child:
            while len(child.lines) < 400 and await child.read() is not None:
                pass
            reports = await child.kill()
        assert len(reports) >= 400
        store = await h.reopen()
        acknowledged = {stream: (seq, entry_id) for stream, seq, entry_id in reports if seq > 0}
        snapshots = {stream: -seq for stream, seq, _ in reports if seq < 0}
        assert len(acknowledged) == 8
        for stream, (seq, entry_id) in acknowledged.items():
            head = await store.head(stream)
            assert head.seq in (seq, seq + 1), f"{stream}: acknowledged {seq}, found {head}"
            assert head.snapshot_seq >= snapshots.get(stream, 0)
            entries = await store.read(stream, head.snapshot_seq)
            assert [entry.seq for entry in entries] == list(range(head.snapshot_seq + 1, head.seq + 1))
            assert entry_id in [entry.entry_id for entry in entries]
            assert entries[-1].entry_id == head.entry_id

    @scenario(reach=Reach.HOST, url=True)
    async def test_histories_of_processes_are_linearizable(self, h: H) -> None:
        """Also when one of the processes is killed: what it had been told stays true."""
        for verdict in check(await journal_histories(h), JournalModel()):
            assert verdict.linearizable, str(verdict)

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_that_race_win_each_position_once(self, h: H) -> None:
        assert h.url is not None
        async with (
            run_child(race_and_report, h.adapter, h.url, "one", "120") as one,
            run_child(race_and_report, h.adapter, h.url, "two", "120") as two,
        ):
            won = {"one": await one.rest(), "two": await two.rest()}
            assert (one.returncode, two.returncode) == (0, 0)
        assert sorted(won["one"] + won["two"]) == list(range(1, 121))
        for entry in await h.adapter.read("contended"):
            assert entry.seq in won[entry.data.decode()]
