"""Journal, locks and coordination on a cluster: the suites over a node that refuses a script with keys of two slots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from loom.errors import StoreUnavailableError
from loom.plugins import LoomURL
from loom.ports import Append, Appended, CoordinationAdapter, Head, JournalStore, LockManager
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.coordination import CoordinationSuite
from loom.testing.suites.journal import JournalStoreSuite
from loom.testing.suites.locks import LockManagerSuite
from loom_redis.client import Redis
from loom_redis.coordination import RedisCoordinationAdapter
from loom_redis.journal import RedisJournalStore
from loom_redis.lock import RedisLockManager
from loom_redis.options import RedisOptions
from loom_redis.plugin import loom_register_adapters
from loom_redis.scripts import Script
from loom_redis.testing import RedisServer
from loom_redis.topology import Standalone, Topology

pytestmark = pytest.mark.slow

SPECS = {spec.port: spec for spec in loom_register_adapters() if spec.scheme == "redis"}


class OneNode(Redis):
    """A client that takes its only server for a cluster."""

    def _make_topology(self) -> Topology:
        return Standalone(self.options, self._wakeups.push, self._wakeups.lost)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("node"), settings=(("cluster-enabled", "yes"),)) as server:
        server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        yield server


@pytest.fixture
def options(node: RedisServer, request: pytest.FixtureRequest) -> RedisOptions:
    options = RedisOptions.from_url(LoomURL.parse(f"{node.url}?namespace={request.node.name}-{id(request)}"))
    return msgspec.structs.replace(options, mode="cluster")


class TestJournal(JournalStoreSuite):
    spec = SPECS["journal"]

    @pytest.fixture(autouse=True)
    def _options(self, options: RedisOptions) -> None:
        self.options = options

    def harness(self, tmp_path: Path) -> Harness[JournalStore]:
        return Harness(lambda: RedisJournalStore(OneNode(self.options)))


class TestLocks(LockManagerSuite):
    spec = SPECS["locks"]

    @pytest.fixture(autouse=True)
    def _options(self, options: RedisOptions) -> None:
        self.options = options

    def harness(self, tmp_path: Path) -> Harness[LockManager]:
        clock, redis = ManualClock(), OneNode(self.options)  # one connection, as in test_locks.py
        return Harness(lambda: RedisLockManager(redis, clock=clock), clock=clock)


class TestCoordination(CoordinationSuite):
    spec = SPECS["coordination"]

    @pytest.fixture(autouse=True)
    def _options(self, options: RedisOptions) -> None:
        self.options = options

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        clock = ManualClock()
        return Harness(lambda: RedisCoordinationAdapter(OneNode(self.options), clock=clock), clock=clock)


async def test_the_node_does_refuse(options: RedisOptions) -> None:
    redis = OneNode(options)
    await redis.start()
    with pytest.raises(StoreUnavailableError, match="same slot"):
        await redis.run(Script("x", "return 1", writes=False), ["{a}", "{b}"], [])
    await redis.close()


async def test_a_name_without_a_head_is_not_listed(options: RedisOptions) -> None:
    """A client that ended between the registering of a name and its first append leaves such a one."""
    async with RedisJournalStore(OneNode(options)) as store:
        await store._register([f"s{n:03}" for n in range(100)])
        assert await store.streams() == []
        appends = [Append(f"s{n:03}", 0, "", "e", b"") for n in range(0, 100, 3)]
        assert await store.append_many(appends) == [Appended(1)] * 34
        assert await store.streams(limit=10) == [f"s{n:03}" for n in range(0, 30, 3)]
        assert await store.streams("s0", "s050") == [f"s{n:03}" for n in range(51, 100, 3)]
        assert await store.head("s001") == Head()
