"""The database under the SQLite adapters: who waits for whose lock, and who is woken by whose commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

from loom.adapters.sqlite.database import Database


def _insert(connection: sqlite3.Connection, items: list[Any]) -> list[int]:
    connection.executemany("INSERT INTO t VALUES (?)", [(item,) for item in items])
    return [threading.get_ident()] * len(items)


async def _open(path: Path, *, quick_commit: float = 0.0) -> Database:
    database = Database(path, quick_commit=quick_commit)
    await database.start()
    await database.create(["CREATE TABLE IF NOT EXISTS t (x)"])
    await asyncio.sleep(0)  # the writer looks once more for work, and is idle
    return database


async def test_a_lone_quick_write_runs_on_the_spot(tmp_path: Path) -> None:
    database = await _open(tmp_path / "loom.db", quick_commit=60.0)
    assert await database.write_grouped(_insert, 1, at_once=True) == threading.get_ident()
    await database.close()


async def test_a_slow_disk_keeps_writes_off_the_event_loop(tmp_path: Path) -> None:
    database = await _open(tmp_path / "loom.db")
    assert await database.write_grouped(_insert, 1, at_once=True) != threading.get_ident()
    await database.close()


async def test_the_lock_of_another_process_never_stops_the_event_loop(tmp_path: Path) -> None:
    database = await _open(tmp_path / "loom.db", quick_commit=60.0)
    other = sqlite3.connect(tmp_path / "loom.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.ensure_future(database.write_grouped(_insert, 1, at_once=True))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not write.done()
    other.execute("COMMIT")
    await write
    assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)
    other.close()
    await database.close()


async def test_commits_of_others_wake_and_own_grouped_ones_do_not(tmp_path: Path) -> None:
    database, other = await _open(tmp_path / "loom.db"), await _open(tmp_path / "loom.db")
    assert database._writer is not None
    while database._version != database._writer.version_here():
        await database.changed(0.05)  # the making of the tables, by the other one
    waiter = asyncio.ensure_future(database.changed(60.0))
    for number in range(20):
        await database.write_grouped(_insert, number, at_once=True)
    assert not waiter.done()
    await other.write(lambda connection: connection.execute("INSERT INTO t VALUES (99)").rowcount)
    assert await waiter
    await database.close()
    await other.close()


async def test_a_failing_write_on_the_spot_is_raised_and_undone(tmp_path: Path) -> None:
    database = await _open(tmp_path / "loom.db", quick_commit=60.0)

    def fail(connection: sqlite3.Connection, items: list[Any]) -> list[int]:
        _insert(connection, items)
        raise ValueError("no")

    for _ in range(2):
        try:
            await database.write_grouped(fail, 1, at_once=True)
        except ValueError:
            continue
        raise AssertionError("it must be raised")
    assert await database.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone()[0]) == 0
    await database.close()
