"""The locks of the core: the conformance suite, the model, and what is particular to SQLite."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.adapters.memory.lock import InMemoryLockManager
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.lock import SqliteLockManager
from loom.clock import Clock
from loom.errors import EphemeralAdapterWarning, StoreUnavailableError
from loom.plugins.builtin import loom_register_adapters
from loom.ports.lock import LockManager
from loom.testing.clock import ManualClock
from loom.testing.machines.locks import locks_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.locks import LockManagerSuite

FAST = settings(max_examples=30, stateful_step_count=30, deadline=None)
SPECS = {spec.scheme: spec for spec in loom_register_adapters() if spec.port == "locks"}


class TestInMemoryLockManager(LockManagerSuite):
    spec = SPECS["memory"]

    def harness(self, tmp_path: Path) -> Harness[LockManager]:
        clock = ManualClock()
        world = InMemoryLockManager(clock=clock)
        return Harness(lambda: InMemoryLockManager.sharing(world), clock=clock)


class TestSqliteLockManager(LockManagerSuite):
    spec = SPECS["sqlite"]

    def harness(self, tmp_path: Path) -> Harness[LockManager]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(lambda: SqliteLockManager(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}")


def test_memory_agrees_with_the_model() -> None:
    def connect(clock: Clock) -> LockManager:
        return InMemoryLockManager(clock=clock)

    run_state_machine_as_test(locks_machine(connect), settings=FAST)


def test_sqlite_agrees_with_the_model(tmp_path: Path) -> None:
    files = iter(range(1_000_000))

    def connect(clock: Clock) -> LockManager:
        return SqliteLockManager(Database(tmp_path / f"{next(files)}.db", synchronous="OFF"), clock=clock)

    run_state_machine_as_test(locks_machine(connect), settings=FAST)


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryLockManager"):
        InMemoryLockManager()


def test_a_cancelled_acquire_gives_back_what_it_took(tmp_path: Path) -> None:
    async def run() -> None:
        async with SqliteLockManager(Database(tmp_path / "loom.db"), clock=ManualClock()) as locks:
            for n in range(20):
                task = asyncio.ensure_future(locks.acquire(f"l{n}", 600.0))
                for _ in range(n % 4):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            # By a clock that stands still: nothing expires, so it must have been released.
            for n in range(20):
                assert await locks.acquire(f"l{n}", 600.0, wait=1.0) is not None

    asyncio.run(run())


def test_a_read_only_file_refuses(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "loom.db")
        async with SqliteLockManager(database) as locks:
            await database.write(lambda c: c.execute("PRAGMA query_only = 1").fetchone())
            with pytest.raises(StoreUnavailableError, match="read-only"):
                await locks.acquire("l", 1.0)
            assert await locks.holder("l") is None

    asyncio.run(run())
