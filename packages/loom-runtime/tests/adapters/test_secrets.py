"""The secrets stores: the conformance suite, in memory and in SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.adapters.memory.secrets import InMemorySecretsStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.secrets import SqliteSecretsStore
from loom.errors import EphemeralAdapterWarning
from loom.plugins import AdapterRegistry
from loom.ports.secrets import SecretsStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.secrets import SecretsStoreSuite


class TestInMemorySecretsStore(SecretsStoreSuite):
    spec = AdapterRegistry().spec("secrets", "memory")

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        clock = ManualClock()
        world = InMemorySecretsStore(clock=clock)
        return Harness(lambda: InMemorySecretsStore.sharing(world), clock=clock)


class TestSqliteSecretsStore(SecretsStoreSuite):
    spec = AdapterRegistry().spec("secrets", "sqlite")

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(lambda: SqliteSecretsStore(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}")


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemorySecretsStore"):
        InMemorySecretsStore()
