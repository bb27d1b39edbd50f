"""Who owns which shards of a SQLite file, as the file says."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from loom.adapters.sqlite.coordination import SqliteCoordinationAdapter
from loom.adapters.sqlite.database import Database
from loom.runtime.messages import actor_stream, shard_of

from .process import Worker

__all__ = ["SHARDS", "account_of", "owned", "owner_of", "pause", "shared_out", "unlock"]

SHARDS = 16
"""The shards of the bank's fleet; see ``make_app``."""


async def owned(file: Path) -> dict[int, set[int]]:
    """The shards of each process id."""
    coordination = SqliteCoordinationAdapter(Database(file))
    await coordination.start()
    try:
        found: dict[int, set[int]] = {}
        for shard, lease in (await coordination.owners()).items():
            found.setdefault(_pid(lease.owner), set()).add(shard)
        return found
    finally:
        await coordination.close()


async def shared_out(file: Path, workers: Iterable[Worker]) -> str:
    """Empty when every shard is owned and each of the workers, and nobody else, owns some; for ``eventually``."""
    found = await owned(file)
    wanted = {worker.pid for worker in workers}
    whole = sum(len(shards) for shards in found.values()) == SHARDS
    return "" if set(found) == wanted and whole else f"owned by {found}, wanted {wanted}"


async def account_of(file: Path, worker: Worker) -> str:
    """The name of an account, used by nobody else, whose shard the worker owns."""
    names = (f"own-{n}" for n in range(1000))
    shards = (await owned(file))[worker.pid]
    return next(name for name in names if shard_of(actor_stream("Account", name), SHARDS) in shards)


async def owner_of(file: Path, account: str) -> int:
    """The process id of the host that owns an account's shard."""
    shard = shard_of(actor_stream("Account", account), SHARDS)
    return next(pid for pid, shards in (await owned(file)).items() if shard in shards)


def pause(file: Path, worker: Worker) -> None:
    """SIGSTOP, at a moment when the worker does not hold the write lock of the file: else nobody could write."""
    while True:
        worker.signal(signal.SIGSTOP)
        while not _stopped(worker.pid):
            time.sleep(0.001)
        with closing(sqlite3.connect(file, timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                return
            except sqlite3.OperationalError:
                worker.signal(signal.SIGCONT)


def _stopped(pid: int) -> bool:
    """Whether every thread stands still: the signal takes a moment to reach them."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state == "T" for state in states)


def unlock(file: Path, worker: Worker) -> None:
    """Make a paused worker look dead, as a fleet with heartbeats would find it: its lock file is taken away."""
    for lock in Path(f"{file}.members").iterdir():
        if any(lock.stat().st_ino == held for held in _locked_by(worker.pid)):
            lock.unlink()
            return
    raise AssertionError(f"{worker.pid} holds no lock")


def _locked_by(pid: int) -> list[int]:
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return [int(words[5].rpartition(":")[2]) for words in lines if len(words) > 5 and words[4] == str(pid)]


def _pid(member: str) -> int:
    return int(member.rsplit("-", 2)[1])
