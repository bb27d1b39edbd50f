"""Locks in Cosmos DB: the conformance suite and the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from loom.clock import Clock
from loom.plugins import LoomURL
from loom.ports.lock import LockManager
from loom.testing.clock import ManualClock
from loom.testing.machines.locks import locks_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.locks import LockManagerSuite
from loom_cosmos.client import Cosmos
from loom_cosmos.lock import CosmosLockManager
from loom_cosmos.options import CosmosOptions
from loom_cosmos.plugin import loom_register_adapters

MODEL = settings(max_examples=5, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("locks", "cosmos"))


def connect(url: str, clock: Clock | None = None) -> CosmosLockManager:
    return CosmosLockManager(Cosmos(CosmosOptions.from_url(LoomURL.parse(url))), clock=clock)


class TestCosmosLockManager(LockManagerSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, cosmos_url: str) -> None:
        self.url = cosmos_url

    def harness(self, tmp_path: Path) -> Harness[LockManager]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(locks_machine(lambda clock: connect(fresh_url(), clock)), settings=MODEL)
