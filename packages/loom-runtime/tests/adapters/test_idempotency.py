"""The idempotency stores: the conformance suite, in memory and in SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.adapters.memory.idempotency import InMemoryIdempotencyStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.idempotency import SqliteIdempotencyStore
from loom.errors import EphemeralAdapterWarning
from loom.plugins.spec import Durability, Reach
from loom.ports.idempotency import IdempotencyStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.idempotency import IdempotencyStoreSuite


class TestInMemoryIdempotencyStore(IdempotencyStoreSuite):
    def harness(self, tmp_path: Path) -> Harness[IdempotencyStore]:
        clock = ManualClock()
        world = InMemoryIdempotencyStore(clock=clock)
        return Harness(lambda: InMemoryIdempotencyStore.sharing(world), clock=clock)


class TestSqliteIdempotencyStore(IdempotencyStoreSuite):
    durability = Durability.MACHINE
    reach = Reach.HOST

    def harness(self, tmp_path: Path) -> Harness[IdempotencyStore]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(
            lambda: SqliteIdempotencyStore(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}"
        )


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryIdempotencyStore"):
        InMemoryIdempotencyStore()
