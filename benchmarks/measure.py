"""One measured figure beside its raw limit, and how to print it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

__all__ = ["Figure", "drive", "raw_commits", "temporary_folder"]


class Figure(msgspec.Struct, kw_only=True):
    """A figure, the raw limit of the same run where there is one, and the ratio that is wanted.

    ``higher_is_better`` tells how ``wanted`` is meant: at least, or at most.
    """

    name: str
    value: float
    unit: str
    raw: float | None = None
    raw_name: str = ""
    wanted: float | None = None
    higher_is_better: bool = True
    p50_ms: float | None = None
    p99_ms: float | None = None

    @property
    def ratio(self) -> float:
        """The value over its raw limit; the value itself where there is none."""
        return self.value / self.raw if self.raw else self.value

    @property
    def reached(self) -> bool:
        """Whether the wanted ratio is reached; True where none is named."""
        if self.wanted is None:
            return True
        return self.ratio >= self.wanted if self.higher_is_better else self.ratio <= self.wanted


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder on this disk, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="loom-bench-") as name:
        yield Path(name)


async def drive(call: Callable[[int], Awaitable[object]], total: int, in_flight: int) -> tuple[float, list[float]]:
    """Make ``call(n)`` for every n below ``total``, ``in_flight`` at a time: calls a second, and sorted seconds."""
    latencies: list[float] = []
    numbers = iter(range(total))

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    return total / (time.perf_counter() - began), sorted(latencies)


def raw_commits(count: int = 3000) -> float:
    """Single SQLite commits a second, one row each, WAL and synchronous=FULL, as Loom uses it."""
    with temporary_folder() as folder:
        db = sqlite3.connect(folder / "raw.db", isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute("create table j(stream text, seq integer, body blob, primary key(stream, seq)) without rowid")
        row = b"x" * 120
        begin = time.perf_counter()
        for seq in range(count):
            db.execute("begin immediate")
            db.execute("insert into j values('s', ?, ?)", (seq, row))
            db.execute("commit")
        elapsed = time.perf_counter() - begin
        db.close()
    return count / elapsed
