"""Coordination of a fleet, as Loom builds it over the documents: the conformance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.adapters.derived.coordination import DocumentCoordination
from loom.clock import Clock
from loom.plugins import LoomURL
from loom.plugins.derived import derive_spec
from loom.ports.coordination import CoordinationAdapter
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.coordination import CoordinationSuite
from loom_cosmos.client import Cosmos
from loom_cosmos.documents import CosmosDocumentStore
from loom_cosmos.options import CosmosOptions
from loom_cosmos.plugin import loom_register_adapters

pytestmark = pytest.mark.slow  # the class is Loom's own and tested over every store; here it is the store that counts

DOCUMENTS = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("documents", "cosmos"))


def connect(url: str, clock: Clock) -> DocumentCoordination:
    cosmos = Cosmos(CosmosOptions.from_url(LoomURL.parse(url)))
    return DocumentCoordination(CosmosDocumentStore(cosmos, clock=clock), clock=clock, owned=True)


class TestCoordinationOverCosmos(CoordinationSuite):
    spec = derive_spec("coordination", DOCUMENTS)

    @pytest.fixture(autouse=True)
    def _server(self, cosmos_url: str) -> None:
        self.url = cosmos_url

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock)
