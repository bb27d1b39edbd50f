"""Secrets in Cosmos DB: the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.clock import Clock
from loom.plugins import LoomURL
from loom.ports.secrets import SecretsStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.secrets import SecretsStoreSuite
from loom_cosmos.client import Cosmos
from loom_cosmos.options import CosmosOptions
from loom_cosmos.plugin import loom_register_adapters
from loom_cosmos.secrets import CosmosSecretsStore

SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("secrets", "cosmos"))


def connect(url: str, clock: Clock | None = None) -> CosmosSecretsStore:
    return CosmosSecretsStore(Cosmos(CosmosOptions.from_url(LoomURL.parse(url))), clock=clock)


class TestCosmosSecretsStore(SecretsStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, cosmos_url: str) -> None:
        self.url = cosmos_url

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)
