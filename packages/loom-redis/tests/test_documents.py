"""Documents on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from loom.plugins import AdapterContext, LoomURL
from loom.ports.documents import DocumentStore
from loom.testing.clock import ManualClock
from loom.testing.machines.documents import documents_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.documents import DocumentStoreSuite
from loom_redis.client import Redis
from loom_redis.documents import RedisDocumentStore
from loom_redis.options import RedisOptions
from loom_redis.plugin import loom_register_adapters

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


class TestRedisDocumentStoreByTheServersTime(DocumentStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        return Harness(lambda: RedisDocumentStore.from_url(LoomURL.parse(self.url), AdapterContext()), url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(documents_machine(lambda: connect(fresh_url())), settings=MODEL)
