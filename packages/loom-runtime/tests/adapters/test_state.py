"""The state stores: the conformance suite, in memory and in SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.adapters.memory.state import InMemoryStateStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.state import SqliteStateStore
from loom.errors import EphemeralAdapterWarning
from loom.plugins.spec import Durability, Reach
from loom.ports.state import StateStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.state import StateStoreSuite


class TestInMemoryStateStore(StateStoreSuite):
    def harness(self, tmp_path: Path) -> Harness[StateStore]:
        clock = ManualClock()
        world = InMemoryStateStore(clock=clock)
        return Harness(lambda: InMemoryStateStore.sharing(world), clock=clock)


class TestSqliteStateStore(StateStoreSuite):
    durability = Durability.MACHINE
    reach = Reach.HOST

    def harness(self, tmp_path: Path) -> Harness[StateStore]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(lambda: SqliteStateStore(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}")


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryStateStore"):
        InMemoryStateStore()
