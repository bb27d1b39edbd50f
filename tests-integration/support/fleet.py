"""Hosts of one bank, and who of them owns which shards, as the coordination of a URL says."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from types import TracebackType
from typing import Self

from loom.ports import ShardLease
from loom.runtime.messages import actor_stream, shard_of

from .places import Place
from .process import Worker, eventually
from .reading import coordination_of

__all__ = [
    "SHARDS",
    "Keeper",
    "account_of",
    "hosts",
    "leases",
    "owned",
    "owner_of",
    "pause",
    "pid_of",
    "shared_out",
    "unlock",
]

SHARDS = 16
"""The shards of the bank's fleet; see ``make_app``."""


@asynccontextmanager
async def hosts(place: Place, count: int) -> AsyncIterator[list[Worker]]:
    """Several hosts that have shared the shards among them."""
    async with AsyncExitStack() as stack:
        workers = await asyncio.gather(*(stack.enter_async_context(place.host()) for _ in range(count)))
        await eventually(lambda: shared_out(place.url, workers), "every host owns shards")
        yield list(workers)


class Keeper:
    """Keeps ``count`` hosts running, as a supervisor does: one that dies is started again."""

    def __init__(self, place: Place, count: int) -> None:
        self.deaths = 0
        self._place = place
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(self._keep()) for _ in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception) and error is None:
                raise ended

    async def _keep(self) -> None:
        while True:
            async with self._place.host() as worker:
                await worker.process.wait()
                self.deaths += 1


async def leases(url: str) -> dict[int, ShardLease]:
    """Every owned shard."""
    async with coordination_of(url) as coordination:
        return await coordination.owners()


async def owned(url: str) -> dict[int, set[int]]:
    """The shards of each process id."""
    found: dict[int, set[int]] = {}
    for shard, lease in (await leases(url)).items():
        found.setdefault(pid_of(lease.owner), set()).add(shard)
    return found


async def shared_out(url: str, workers: Iterable[Worker], shards: int = SHARDS) -> str:
    """Empty when every shard is owned and each of the workers, and nobody else, owns some; for ``eventually``."""
    found = await owned(url)
    wanted = {worker.pid for worker in workers}
    whole = sum(map(len, found.values())) == shards
    return "" if set(found) == wanted and whole else f"owned by {found}, wanted {wanted}"


async def account_of(url: str, worker: Worker, prefix: str = "own") -> str:
    """The name of an account, used by nobody else, whose shard the worker owns."""
    names = (f"{prefix}-{n}" for n in range(1000))
    shards = (await owned(url))[worker.pid]
    return next(name for name in names if shard_of(actor_stream("Account", name), SHARDS) in shards)


async def owner_of(url: str, stream: str, shards: int = SHARDS) -> int:
    """The process id of the host that owns the shard of a stream."""
    shard = shard_of(stream, shards)
    return next(pid for pid, found in (await owned(url)).items() if shard in found)


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


def pid_of(member: str) -> int:
    """The process id of a member of the fleet."""
    return int(member.rsplit("-", 2)[1])
