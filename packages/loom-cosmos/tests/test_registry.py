"""The directory of active actors in Cosmos DB: the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.clock import Clock
from loom.plugins import LoomURL
from loom.ports.registry import ActorRegistry
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.registry import ActorRegistrySuite
from loom_cosmos.client import Cosmos
from loom_cosmos.options import CosmosOptions
from loom_cosmos.plugin import loom_register_adapters
from loom_cosmos.registry import CosmosActorRegistry

SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("registry", "cosmos"))


def connect(url: str, clock: Clock | None = None) -> CosmosActorRegistry:
    return CosmosActorRegistry(Cosmos(CosmosOptions.from_url(LoomURL.parse(url))), clock=clock)


class TestCosmosActorRegistry(ActorRegistrySuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, cosmos_url: str) -> None:
        self.url = cosmos_url

    def harness(self, tmp_path: Path) -> Harness[ActorRegistry]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)
