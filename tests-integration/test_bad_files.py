"""A full disk, a read-only place, a file that is no database, a journal entry that was damaged."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.bank import Account, database_url, make_app
from support.mounts import read_only, small_disk
from support.process import Worker, eventually
from support.proof import Journal

from loom import LoomError
from loom.errors import CorruptEntryError, StoreUnavailableError

pytestmark = pytest.mark.crash


async def test_a_full_disk_loses_nothing_and_the_app_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        file, ballast = disk / "bank.db", disk / "ballast"
        async with make_app(database_url(file)) as app:
            acknowledged = await app.actor(Account, "a").deposit(1)
            with ballast.open("wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(4096))
                except OSError:
                    pass
            error: Any = None
            while error is None:
                try:
                    acknowledged = await app.actor(Account, "a", idempotency_key=f"k-{acknowledged}").deposit(1)
                except LoomError as failure:
                    error = failure
            assert isinstance(error, LoomError)
            assert str(file) in str(error), error
            assert "full" in str(error), error
            ballast.unlink()
            # The same app, the same actor, no restart; under its key the call that failed happens once.
            assert await _until_it_works(app, acknowledged) == acknowledged + 1
            assert await app.actor(Account, "a").balance() == acknowledged + 1
        journal = Journal.of_file(file)
        journal.settled()
        assert journal.balance("a") == acknowledged + 1


async def _until_it_works(app: Any, acknowledged: int) -> int:
    for _ in range(100):
        try:
            return int(await app.actor(Account, "a", idempotency_key=f"k-{acknowledged}").deposit(1))
        except LoomError:
            await asyncio.sleep(0.05)
    raise AssertionError("the app did not recover")


async def test_a_full_disk_stops_a_host_only_for_as_long_as_it_is_full(tmp_path: Path) -> None:
    """The same through a host process and its queue, with no root needed: a limit on the size of files."""
    file = tmp_path / "bank.db"
    async with Worker.running("bank_host", database_url(file)) as host:
        async with make_app(database_url(file)).client() as client:
            calls = [asyncio.ensure_future(client.actor(Account, "a").deposit(1)) for _ in range(20)]
            await host.say("full")
            await host.event("full")
            calls += [asyncio.ensure_future(client.actor(Account, "a").deposit(1)) for _ in range(20)]
            await eventually(lambda: "" if str(file) in host.errors else "nothing", "the host says what is wrong")
            await host.say("space")
            await host.event("space")
            assert sorted(await asyncio.gather(*calls)) == list(range(1, 41))
            await eventually(lambda: Journal.of_file(file).unfinished(), "everything is acked")
        await host.stop()
    Journal.of_file(file).settled()


async def test_a_read_only_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with read_only(folder), pytest.raises(LoomError) as caught:
        async with make_app(database_url(folder / "bank.db")):
            pass
    assert str(folder / "bank.db") in str(caught.value)
    assert "writable" in str(caught.value) or "write permission" in str(caught.value)


async def test_a_read_only_file_is_named_with_the_remedy_and_works_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "bank.db"
    async with make_app(database_url(file)) as app:
        await app.actor(Account, "a").deposit(5)
    with read_only(folder), pytest.raises(LoomError) as caught:
        async with make_app(database_url(file)):
            pass
    assert str(file) in str(caught.value)
    assert "read-only" in str(caught.value) or "writable" in str(caught.value)
    async with make_app(database_url(file)) as app:
        assert await app.actor(Account, "a").balance() == 5


async def test_a_file_that_is_not_sqlite_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "bank.db"
    content = b"these are the accounts, on paper\n" * 1000
    file.write_bytes(content)
    with pytest.raises(StoreUnavailableError) as caught:
        async with make_app(database_url(file)):
            pass
    assert str(file) in str(caught.value)
    assert "not SQLite" in str(caught.value)
    assert file.read_bytes() == content


async def test_a_damaged_entry_stops_its_actor_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "bank.db"
    async with make_app(database_url(file), snapshot_every=1000) as app:
        for n in range(5):
            await app.actor(Account, "damaged").deposit(n)
            await app.actor(Account, "sound").deposit(n)
    before = _flip_a_byte(file, "actor/Account/damaged", 3)
    async with make_app(database_url(file), snapshot_every=1000) as app:
        for call in (app.actor(Account, "damaged").deposit, app.actor(Account, "damaged").withdraw):
            with pytest.raises(CorruptEntryError) as caught:
                await call(1)
            assert caught.value.context["stream"] == "actor/Account/damaged"
            assert caught.value.context["seq"] == 3
            assert "actor/Account/damaged" in str(caught.value)
            assert "3" in str(caught.value)
        with pytest.raises(CorruptEntryError):
            await app.actor(Account, "damaged").balance()
        assert await app.actor(Account, "sound").deposit(1) == 11
    with closing(sqlite3.connect(file)) as connection:
        head = connection.execute("SELECT seq FROM journal_heads WHERE stream = 'actor/Account/damaged'").fetchone()
        assert head == (5,), "nothing was appended behind the damage"
        connection.execute("UPDATE journal_entries SET data = ? WHERE n = ?", before)
        connection.commit()
    async with make_app(database_url(file)) as app:  # restored, as the message says
        assert await app.actor(Account, "damaged").balance() == 10


def _flip_a_byte(file: Path, stream: str, seq: int) -> tuple[bytes, int]:
    with closing(sqlite3.connect(file)) as connection:
        n, data = connection.execute(
            "SELECT e.n, e.data FROM journal_entries e JOIN journal_heads h ON h.id = e.stream_id "
            "WHERE h.stream = ? AND e.seq = ?",
            (stream, seq),
        ).fetchone()
        middle = len(data) // 2
        damaged = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        connection.execute("UPDATE journal_entries SET data = ? WHERE n = ?", (damaged, n))
        connection.commit()
    return data, n
