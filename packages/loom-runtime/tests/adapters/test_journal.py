"""The journals of the core: the conformance suite, the model, and what is particular to SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.journal import SqliteJournalStore
from loom.errors import CorruptEntryError, EphemeralAdapterWarning, StoreUnavailableError
from loom.plugins.builtin import loom_register_adapters
from loom.plugins.urls import AdapterContext, LoomURL
from loom.ports.journal import Append, Appended, Head, JournalStore, Snapshot
from loom.testing.machines.journal import journal_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.journal import JournalStoreSuite

FAST = settings(max_examples=30, stateful_step_count=30, deadline=None)


SPECS = {spec.scheme: spec for spec in loom_register_adapters() if spec.port == "journal"}


class TestInMemoryJournalStore(JournalStoreSuite):
    spec = SPECS["memory"]

    def harness(self, tmp_path: Path) -> Harness[JournalStore]:
        world = InMemoryJournalStore()
        return Harness(lambda: InMemoryJournalStore.sharing(world))


class TestSqliteJournalStore(JournalStoreSuite):
    spec = SPECS["sqlite"]

    def harness(self, tmp_path: Path) -> Harness[JournalStore]:
        path = tmp_path / "loom.db"
        return Harness(lambda: SqliteJournalStore(Database(path)), url=f"sqlite:///{path}")


def test_memory_agrees_with_the_model() -> None:
    run_state_machine_as_test(journal_machine(InMemoryJournalStore), settings=FAST)


def test_sqlite_agrees_with_the_model(tmp_path: Path) -> None:
    files = iter(range(1_000_000))
    machine = journal_machine(lambda: SqliteJournalStore(Database(tmp_path / f"{next(files)}.db", synchronous="OFF")))
    run_state_machine_as_test(machine, settings=FAST)


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryJournalStore"):
        InMemoryJournalStore()


async def _append(store: JournalStore, stream: str, count: int, data: bytes = b"data") -> None:
    head = await store.head(stream)
    for n in range(count):
        await store.append(Append(stream, head.seq, head.entry_id, f"{stream}-{n}", data))
        head = await store.head(stream)


@pytest.mark.parametrize("damage", ["data = x'00'", "data = 'text'", "crc = crc + 1"])
def test_a_damaged_entry_is_named(tmp_path: Path, damage: str) -> None:
    async def run() -> None:
        database = Database(tmp_path / "loom.db")
        async with SqliteJournalStore(database) as store:
            await _append(store, "s", 3)
            await store.write_snapshot("s", Snapshot(1, b"snap"))
            await database.write(lambda c: c.execute(f"UPDATE journal_entries SET {damage} WHERE seq = 2").rowcount)
            with pytest.raises(CorruptEntryError) as caught:
                await store.read("s")
            assert caught.value.context == {"stream": "s", "seq": 2}
            assert [entry.seq for entry in await store.read("s", 2)] == [3]
            await database.write(lambda c: c.execute(f"UPDATE journal_snapshots SET {damage}").rowcount)
            with pytest.raises(CorruptEntryError):
                await store.read_snapshot("s")

    asyncio.run(run())


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "loom.db")
        async with SqliteJournalStore(database) as store:
            await _append(store, "s", 3)
            await database.write(lambda c: c.execute("PRAGMA max_page_count = 30").fetchone())
            with pytest.raises(StoreUnavailableError, match="full") as caught:
                await _append(store, "big", 1, b"x" * 1_000_000)
            assert not caught.value.unknown
            assert await store.head("big") == Head()
            assert len(await store.read("s")) == 3
            # One that does not fit never takes along those that waited with it.
            small, big = await asyncio.gather(
                store.append(Append("small", 0, "", "e", b"")),
                store.append(Append("big", 0, "", "e", b"x" * 1_000_000)),
                return_exceptions=True,
            )
            assert small == Appended(1)
            assert isinstance(big, StoreUnavailableError)

    asyncio.run(run())


def test_a_read_only_file_refuses_writes_and_can_be_read(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "loom.db")
        async with SqliteJournalStore(database) as store:
            await _append(store, "s", 2)
            # The tests may run as root, for whom no file is read-only: SQLite answers the same to this.
            await database.write(lambda c: c.execute("PRAGMA query_only = 1").fetchone())
            with pytest.raises(StoreUnavailableError, match="read-only") as caught:
                await _append(store, "s", 1)
            assert not caught.value.unknown
            assert len(await store.read("s")) == 2

    asyncio.run(run())


def test_a_failed_start_names_the_folder_and_leaves_nothing_open(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "missing" / "loom.db")
        store = SqliteJournalStore(database)
        with pytest.raises(StoreUnavailableError, match="missing"):
            await store.start()
        (tmp_path / "missing").mkdir()
        async with store:
            await _append(store, "s", 1)
        assert not list((tmp_path / "missing").glob("*-wal"))

    asyncio.run(run())


def test_two_adapters_of_one_url_share_a_database(tmp_path: Path) -> None:
    async def run() -> None:
        context, url = AdapterContext(), LoomURL.parse(f"sqlite:///{tmp_path}/loom.db")
        first, second = (SqliteJournalStore.from_url(url, context) for _ in range(2))
        await first.start()
        await first.start()
        await second.start()
        await first.close()
        await first.close()
        await _append(second, "s", 1)
        await second.close()
        with sqlite3.connect(tmp_path / "loom.db") as connection:
            assert connection.execute("SELECT count(*) FROM journal_entries").fetchone() == (1,)

    asyncio.run(run())
