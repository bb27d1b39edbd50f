"""The queue on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL
from loom.ports import MessageQueue
from loom.testing import ManualClock
from loom.testing.machines.queue import queue_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.queue import MessageQueueSuite
from loom_redis.plugin import loom_register_adapters
from loom_redis.queue import RedisMessageQueue

MODEL = settings(max_examples=40, stateful_step_count=40, deadline=None)


def connect(url: str, clock: Clock | None = None) -> RedisMessageQueue:
    return RedisMessageQueue.from_url(LoomURL.parse(url), AdapterContext(clock))


class TestRedisMessageQueue(MessageQueueSuite):
    spec = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("queue", "redis"))

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)


class TestByTheServersTime(TestRedisMessageQueue):
    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        return Harness(lambda: connect(self.url), url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(queue_machine(lambda clock: connect(fresh_url(), clock)), settings=MODEL)


class TestWithASlotForEachQueue(TestRedisMessageQueue):
    """As on a cluster: a script sees the keys of one queue only."""

    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        clock = ManualClock()

        def separate() -> RedisMessageQueue:
            queue = connect(self.url, clock)
            queue._one_slot = False
            return queue

        return Harness(separate, clock=clock)
