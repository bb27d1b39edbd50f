"""The journal on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.plugins import AdapterContext, LoomURL
from loom.ports import JournalStore
from loom.testing.machines.journal import journal_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.journal import JournalStoreSuite
from loom_redis.journal import RedisJournalStore
from loom_redis.plugin import loom_register_adapters

MODEL = settings(max_examples=30, stateful_step_count=30, deadline=None)


def connect(url: str) -> RedisJournalStore:
    return RedisJournalStore.from_url(LoomURL.parse(url), AdapterContext())


class TestRedisJournalStore(JournalStoreSuite):
    spec = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("journal", "redis"))

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[JournalStore]:
        return Harness(lambda: connect(self.url), url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(journal_machine(lambda: connect(fresh_url())), settings=MODEL)
