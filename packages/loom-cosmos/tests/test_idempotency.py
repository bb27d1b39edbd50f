"""Idempotency keys in Cosmos DB: the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.clock import Clock
from loom.plugins import LoomURL
from loom.ports.idempotency import IdempotencyStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.idempotency import IdempotencyStoreSuite
from loom_cosmos.client import Cosmos
from loom_cosmos.idempotency import CosmosIdempotencyStore
from loom_cosmos.options import CosmosOptions
from loom_cosmos.plugin import loom_register_adapters

SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("idempotency", "cosmos"))


def connect(url: str, clock: Clock | None = None) -> CosmosIdempotencyStore:
    return CosmosIdempotencyStore(Cosmos(CosmosOptions.from_url(LoomURL.parse(url))), clock=clock)


class TestCosmosIdempotencyStore(IdempotencyStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, cosmos_url: str) -> None:
        self.url = cosmos_url

    def harness(self, tmp_path: Path) -> Harness[IdempotencyStore]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)
