"""Documents on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from loom.plugins import AdapterContext, LoomURL
from loom.ports.documents import DocumentStore
from loom.testing.clock import ManualClock
from loom.testing.machines.documents import documents_machine
from loom.testing.servers import free_port
from loom.testing.suites.base import Harness
from loom.testing.suites.documents import DocumentStoreSuite
from loom_redis.client import Redis
from loom_redis.documents import RedisDocumentStore
from loom_redis.options import RedisOptions
from loom_redis.plugin import loom_register_adapters
from loom_redis.testing import RedisServer

MODEL = settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("documents", "redis"))


def connect(url: str, clock: ManualClock | None = None) -> RedisDocumentStore:
    return RedisDocumentStore(Redis(RedisOptions.from_url(LoomURL.parse(url))), clock=clock)


class TestRedisDocumentStore(DocumentStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)


@pytest.mark.slow
class TestRedisDocumentStoreByTheServersTime(DocumentStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        return Harness(lambda: RedisDocumentStore.from_url(LoomURL.parse(self.url), AdapterContext()), url=self.url)


@pytest.fixture(scope="module")
def cluster_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that has every slot of a cluster, and refuses a script that touches two of them or a key undeclared."""
    folder = Path(tmp_path_factory.mktemp("node"))
    with RedisServer(folder, settings=(("cluster-enabled", "yes"), ("cluster-port", str(free_port())))) as server:
        assert server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383").startswith(b"+OK")
        deadline = time.monotonic() + 30
        while b"cluster_state:ok" not in server.command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server


@pytest.mark.slow
class TestRedisDocumentStoreByTheRulesOfACluster(DocumentStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, cluster_node: RedisServer, redis_url: str) -> None:
        self.url = f"{cluster_node.url}?{redis_url.partition('?')[2]}"

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(documents_machine(lambda: connect(fresh_url())), settings=MODEL)
