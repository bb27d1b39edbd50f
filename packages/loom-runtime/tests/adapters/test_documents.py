"""The document stores of the core: the conformance suite, the model, and what is particular to each."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from loom.adapters.memory.documents import InMemoryCosmos, InMemoryDocumentStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.documents import SqliteDocumentStore
from loom.errors import EphemeralAdapterWarning
from loom.plugins.spec import Durability, Feature, Reach
from loom.plugins.urls import AdapterContext, LoomURL
from loom.ports.documents import Collection, Condition, DocumentStore, Query
from loom.testing.clock import ManualClock
from loom.testing.machines.documents import documents_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.documents import DocumentStoreSuite

FAST = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestInMemoryCosmos(DocumentStoreSuite):
    features = frozenset({Feature.TTL})

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        clock = ManualClock()
        world = InMemoryCosmos(clock=clock)
        return Harness(lambda: InMemoryCosmos.sharing(world), clock=clock)


class TestSqliteDocumentStore(DocumentStoreSuite):
    features = frozenset({Feature.TTL})
    durability = Durability.MACHINE
    reach = Reach.HOST

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(lambda: SqliteDocumentStore(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}")


def test_memory_agrees_with_the_model() -> None:
    run_state_machine_as_test(documents_machine(InMemoryDocumentStore), settings=FAST)


def test_sqlite_agrees_with_the_model(tmp_path: Path) -> None:
    files = iter(range(1_000_000))
    machine = documents_machine(
        lambda: SqliteDocumentStore(Database(tmp_path / f"{next(files)}.db", synchronous="OFF"))
    )
    run_state_machine_as_test(machine, settings=FAST)


async def test_memory_is_shared_by_url_within_a_context() -> None:
    context = AdapterContext()
    one, two, apart = (
        InMemoryDocumentStore.from_url(LoomURL.parse(url), context) for url in ("memory://", "memory://", "memory://x")
    )
    for store in (one, two, apart):
        await store.ensure([Collection("c")])
    put = await one.put("c", "p", "a", {})
    assert await two.get("c", "p", "a") == put
    assert await apart.get("c", "p", "a") is None


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryCosmos"):
        InMemoryCosmos()


async def test_sqlite_prunes_what_has_expired(tmp_path: Path) -> None:
    clock = ManualClock()
    async with SqliteDocumentStore(Database(tmp_path / "x.db"), clock=clock) as store:
        await store.ensure([Collection("c")])
        for n in range(50):
            await store.put("c", "p", str(n), {}, ttl=10)
        clock.advance(10)
        await store.put("c", "p", "new", {})
    with sqlite3.connect(tmp_path / "x.db") as connection:
        assert connection.execute("SELECT count(*) FROM documents_c").fetchone() == (1,)
    connection.close()


async def test_sqlite_answers_queries_from_the_declared_index(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    async with SqliteDocumentStore(database) as store:
        await store.ensure([Collection("c", indexes=(("status", "at"),))])
        for n in range(200):
            await store.put("c", f"p{n}", "a", {"status": str(n % 50), "at": n})
        statements: list[str] = []

        def trace(connection: sqlite3.Connection) -> None:
            connection.set_trace_callback(statements.append)

        await database.read(trace)
        await store.query("c", Query(where=(Condition("status", "==", "7"), Condition("at", ">", 3)), order_by="at"))
        [select] = [statement for statement in statements if statement.startswith("SELECT partition")]
        plan = await database.read(lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {select}").fetchall())
        assert ":f_status,f_at" in plan[0][3]
        assert "f_status=? AND f_at>?" in plan[0][3]
        assert len(plan) == 1, "the index gives the order: nothing is sorted"
