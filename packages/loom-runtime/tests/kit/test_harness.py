"""The harness around an adapter: by a URL, and in another process without showing it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from loom.adapters.sqlite.journal import SqliteJournalStore
from loom.ports.journal import Append
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.child import run_child
from loom.testing.suites.journal_crash import append_and_report


async def test_clients_of_a_url_have_connections_of_their_own_and_the_same_data(tmp_path: Path) -> None:
    async with Harness.of_url(SqliteJournalStore, f"sqlite:///{tmp_path}/loom.db") as harness:
        other = await harness.second()
        assert harness.adapter._database is not other._database
        await harness.adapter.append(Append("s", 0, "", "e", b""))
        assert (await other.head("s")).seq == 1
        left = await harness.leave()
        assert left is not other
        assert (await (await harness.reopen()).head("s")).seq == 1


def test_leases_last_long_by_a_tests_clock_and_as_wanted_in_real_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/loom.db"
    assert Harness.of_url(SqliteJournalStore, url).unit == 0.5
    assert Harness.of_url(SqliteJournalStore, url, unit=5.0).unit == 5.0
    assert Harness.of_url(SqliteJournalStore, url, clock=ManualClock()).unit == 30.0


def arguments_of(pid: int) -> str:
    """What everybody on the machine sees of a process."""
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("ps") is None, reason="this platform has no ps")
async def test_the_other_process_does_not_show_the_url(tmp_path: Path) -> None:
    async with Harness.of_url(SqliteJournalStore, f"sqlite:///{tmp_path}/secret.db") as harness:
        assert harness.url is not None
        async with run_child(append_and_report, await harness.leave(), harness.url) as child:
            assert await child.read() is not None
            shown = arguments_of(child._process.pid)
            await child.kill()
    assert "append_and_report" in shown
    assert "secret" not in shown
