"""The queues of the core: the conformance suite, the model, and what is particular to SQLite."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.queue import SqliteMessageQueue
from loom.clock import Clock
from loom.errors import EphemeralAdapterWarning, StoreUnavailableError
from loom.plugins.builtin import loom_register_adapters
from loom.ports.queue import MessageQueue, OutgoingMessage
from loom.testing.clock import ManualClock
from loom.testing.machines.queue import queue_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.queue import MessageQueueSuite

FAST = settings(max_examples=30, stateful_step_count=30, deadline=None)
SPECS = {spec.scheme: spec for spec in loom_register_adapters() if spec.port == "queue"}


class TestInMemoryMessageQueue(MessageQueueSuite):
    spec = SPECS["memory"]

    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        clock = ManualClock()
        world = InMemoryMessageQueue(clock=clock)
        return Harness(lambda: InMemoryMessageQueue.sharing(world), clock=clock)


class TestSqliteMessageQueue(MessageQueueSuite):
    spec = SPECS["sqlite"]

    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(lambda: SqliteMessageQueue(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}")


def test_memory_agrees_with_the_model() -> None:
    def connect(clock: Clock) -> MessageQueue:
        return InMemoryMessageQueue(clock=clock)

    run_state_machine_as_test(queue_machine(connect), settings=FAST)


def test_sqlite_agrees_with_the_model(tmp_path: Path) -> None:
    files = iter(range(1_000_000))

    def connect(clock: Clock) -> MessageQueue:
        return SqliteMessageQueue(Database(tmp_path / f"{next(files)}.db", synchronous="OFF"), clock=clock)

    run_state_machine_as_test(queue_machine(connect), settings=FAST)


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryMessageQueue"):
        InMemoryMessageQueue()


def _message(id: str, body: bytes = b"") -> OutgoingMessage:
    return OutgoingMessage(queue="q", id=id, body=body)


def test_an_idle_receive_takes_no_write_lock(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "loom.db")
        async with SqliteMessageQueue(database) as queue:
            await database.write(lambda c: c.execute("PRAGMA query_only = 1").fetchone())
            assert await queue.receive([f"q{n}" for n in range(300)], limit=10) == []

    asyncio.run(run())


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "loom.db")
        async with SqliteMessageQueue(database) as queue:
            await queue.send(_message("kept"))
            await database.write(lambda c: c.execute("PRAGMA max_page_count = 40").fetchone())
            with pytest.raises(StoreUnavailableError, match="full"):
                await queue.send_many([_message("small"), _message("big", b"x" * 1_000_000)])
            assert await queue.send(_message("small")), "sending the same ids again is safe"
            assert [one.id for one in await queue.receive(["q"], limit=9)] == ["kept", "small"]

    asyncio.run(run())


def test_finished_ids_are_pruned_in_passing(tmp_path: Path) -> None:
    async def run() -> None:
        database, clock = Database(tmp_path / "loom.db"), ManualClock()
        async with SqliteMessageQueue(database, clock=clock, dedupe_window=10.0) as queue:
            for n in range(50):
                await queue.send(_message(f"m{n}"))
                await queue.ack(await queue.receive(["q"]))
                clock.advance(1.0)
            count = await database.read(lambda c: c.execute("SELECT count(*) FROM queue_finished").fetchone()[0])
            assert count <= 11

    asyncio.run(run())


def test_a_dedupe_window_comes_from_the_url(tmp_path: Path) -> None:
    from loom.plugins.urls import AdapterContext, LoomURL

    for cls, url in (
        (SqliteMessageQueue, f"sqlite:///{tmp_path}/loom.db?dedupe_window=7"),
        (InMemoryMessageQueue, "memory://?dedupe_window=7"),
    ):
        assert cls.from_url(LoomURL.parse(url), AdapterContext()).dedupe_window == 7.0


async def test_a_receive_that_is_cancelled_while_it_leases_gives_back_what_it_took(tmp_path: Path) -> None:
    queue = SqliteMessageQueue(Database(tmp_path / "loom.db"))
    await queue.start()
    await queue.send_many([OutgoingMessage(queue="q", id=str(n), body=b"", group="g") for n in range(3)])
    taken, gate, write = asyncio.Event(), asyncio.Event(), queue._database.write

    async def slow(work: Any) -> Any:
        result = await write(work)
        taken.set()
        await gate.wait()
        return result

    queue._database.write = slow  # type: ignore[method-assign, assignment]
    receiving = asyncio.ensure_future(queue.receive(["q"], limit=10, lease=30.0, wait=5.0))
    await taken.wait()
    assert (await queue.depth("q")).leased == 3
    receiving.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert (await queue.depth("q")).leased == 0
    assert [delivery.id for delivery in await queue.receive(["q"], limit=10)] == ["0", "1", "2"]
    await queue.close()


async def test_replies_that_nobody_reads_any_more_are_swept_by_others(tmp_path: Path) -> None:
    """A client that died leaves its reply queue behind, and nobody ever receives from that."""
    clock = ManualClock()
    queue = SqliteMessageQueue(Database(tmp_path / "loom.db"), clock=clock)
    await queue.start()
    for n in range(30):
        await queue.send(OutgoingMessage(queue="reply", id=str(n), body=b"", expires_at=clock.now() + 60))
    assert len(await queue.receive(["reply"], limit=5, lease=10.0)) == 5
    await queue.send(OutgoingMessage(queue="reply", id="young", body=b"", expires_at=clock.now() + 600))
    await queue.send_many([OutgoingMessage(queue="work", id=str(n), body=b"") for n in range(6)])
    clock.advance(61)
    left = []
    for _ in range(5):
        await queue.ack(await queue.receive(["work"], limit=1))
        depth = await queue.depth("reply")
        left.append(depth.ready + depth.leased)
    assert left == [21, 11, 1, 1, 1]
    assert await queue.queues() == ["reply", "work"]
    await queue.close()
