"""Coordination: the conformance suite, and signs of life by heartbeat and by file lock."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from loom.adapters.derived.coordination import DocumentCoordination
from loom.adapters.file_lock import KERNEL_LOCKS, FileLock
from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
from loom.adapters.sqlite.coordination import SqliteCoordinationAdapter
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.documents import SqliteDocumentStore
from loom.errors import CoordinationError, EphemeralAdapterWarning, NotAMemberError
from loom.plugins.builtin import loom_register_adapters
from loom.plugins.spec import Durability, Feature
from loom.ports.coordination import CoordinationAdapter, Member, clocks_apart
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.child import run_child
from loom.testing.suites.coordination import CoordinationSuite, join_and_wait

needs_flock = pytest.mark.skipif(not KERNEL_LOCKS, reason="this platform has no flock")


SPECS = {spec.scheme: spec for spec in loom_register_adapters() if spec.port == "coordination"}


class TestInMemoryCoordinationAdapter(CoordinationSuite):
    spec = SPECS["memory"]

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        clock = ManualClock()
        world = InMemoryCoordinationAdapter(clock=clock)
        return Harness(lambda: InMemoryCoordinationAdapter.sharing(world), clock=clock)


class TestHeartbeatsOverSqliteDocuments(CoordinationSuite):
    """What a fleet over any DocumentStore does, and SQLite where there is no flock."""

    features = frozenset({Feature.TTL})
    durability = Durability.MACHINE

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(
            lambda: DocumentCoordination(SqliteDocumentStore(Database(path), clock=clock), clock=clock, owned=True),
            clock=clock,
        )


class TestSqliteCoordinationAdapter(CoordinationSuite):
    spec = SPECS["sqlite"]
    features = SPECS["sqlite"].features if KERNEL_LOCKS else frozenset({Feature.TTL})

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        clock, path = ManualClock(), tmp_path / "loom.db"
        return Harness(
            lambda: SqliteCoordinationAdapter(Database(path), clock=clock), clock=clock, url=f"sqlite:///{path}"
        )


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryCoordinationAdapter"):
        InMemoryCoordinationAdapter()


@needs_flock
async def test_a_paused_process_is_alive_and_a_killed_one_is_dead_at_once(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "loom.db"
    async with SqliteCoordinationAdapter(Database(path), clock=clock) as adapter:
        await adapter.join(Member(id="living"))
        async with run_child(join_and_wait, adapter, f"sqlite:///{path}", "child", "0") as child:
            await child.read()
            os.kill(child._process.pid, signal.SIGSTOP)
            clock.advance(1_000_000)
            assert [member.id for member in await adapter.members()] == ["child", "living"]
            assert await adapter.claim("living", range(16)) == []
            await child.kill()
            assert [member.id for member in await adapter.members()] == ["living"]
            assert len(await adapter.claim("living", range(16))) == 16
        with pytest.raises(NotAMemberError):
            await adapter.heartbeat("child")
        # The dead member's lock file went with its record.
        assert len(os.listdir(f"{path}.members")) == 1


@needs_flock
async def test_two_processes_cannot_be_one_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loom.adapters.sqlite.member_locks._JOIN_SECONDS", 0.01)
    path = tmp_path / "loom.db"
    one, two = SqliteCoordinationAdapter(Database(path)), SqliteCoordinationAdapter(Database(path))
    async with one, two:
        await one.join(Member(id="a"))
        await one.join(Member(id="a", draining=True))
        with pytest.raises(CoordinationError, match="another running process"):
            await two.join(Member(id="a"))
        await one.leave("a")
        await two.join(Member(id="a"))


@needs_flock
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    path = tmp_path / "loom.db"
    one, two = SqliteCoordinationAdapter(Database(path)), SqliteCoordinationAdapter(Database(path))
    async with one, two:
        await one.join(Member(id="a"))
        ready, tell = os.pipe()
        stay, leave = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(leave)
            os.write(tell, b"x")
            os.read(stay, 1)
            os._exit(0)
        try:
            os.read(ready, 1)
            assert [member.id for member in await two.members()] == ["a"]
            await one.close()
            assert await two.members() == []
        finally:
            os.close(leave)
            os.waitpid(child, 0)  # noqa: ASYNC222 - it has nothing left to do
            for descriptor in (ready, tell, stay):
                os.close(descriptor)


@needs_flock
def test_a_lock_on_a_deleted_file_is_none_on_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert FileLock.held(path) is False
    first = FileLock.take(path)
    assert first is not None
    assert FileLock.held(path) is True
    assert FileLock.take(path) is None
    first.release(delete=True)
    first.release(delete=True)
    assert not path.exists()
    second = FileLock.take(path)
    assert second is not None
    assert FileLock.held(path) is True
    second.release()
    assert FileLock.held(path) is False


async def test_signs_of_life_tell_whose_clock_is_ahead() -> None:
    here, ahead = ManualClock(), ManualClock()
    one = InMemoryCoordinationAdapter(clock=here)
    other = InMemoryCoordinationAdapter(one._documents, clock=ahead)
    ahead.advance(5.0)
    await one.start()
    await other.start()
    await one.join(Member(id="one"))
    await other.join(Member(id="other"))
    assert clocks_apart(await one.last_seen(), here.now()) == {"other": pytest.approx(5.0)}
    assert clocks_apart(await other.last_seen(), ahead.now()) == {}
    here.advance(4.5)
    assert clocks_apart(await one.last_seen(), here.now()) == {}


@needs_flock
async def test_members_of_one_machine_have_one_clock(tmp_path: Path) -> None:
    adapter = SqliteCoordinationAdapter(Database(tmp_path / "loom.db"))
    await adapter.start()
    await adapter.join(Member(id="one"))
    assert await adapter.last_seen() == {}
    await adapter.close()
