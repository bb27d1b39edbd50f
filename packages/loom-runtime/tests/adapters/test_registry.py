"""The actor registries: the conformance suite, in memory and in SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.adapters.memory.registry import InMemoryActorRegistry
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.registry import SqliteActorRegistry
from loom.errors import EphemeralAdapterWarning
from loom.plugins.spec import Durability, Reach
from loom.ports.registry import ActorRegistry
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.registry import ActorRegistrySuite


class TestInMemoryActorRegistry(ActorRegistrySuite):
    def harness(self, tmp_path: Path) -> Harness[ActorRegistry]:
        clock = ManualClock()
        world = InMemoryActorRegistry(clock=clock)
        return Harness(lambda: InMemoryActorRegistry.sharing(world), clock=clock)


class TestSqliteActorRegistry(ActorRegistrySuite):
    durability = Durability.MACHINE
    reach = Reach.HOST

    def harness(self, tmp_path: Path) -> Harness[ActorRegistry]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(lambda: SqliteActorRegistry(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}")


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryActorRegistry"):
        InMemoryActorRegistry()
