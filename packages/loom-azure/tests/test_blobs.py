"""The conformance suite of blob stores, and the model, over Azurite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from loom.plugins import AdapterContext, LoomURL
from loom.ports import BlobStore
from loom.testing.machines.blobs import blobs_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.blobs import BlobStoreSuite
from loom_azure.blobs import AzureBlobStore
from loom_azure.plugin import BLOBS

FAST = settings(max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestAzureBlobStore(BlobStoreSuite):
    spec = BLOBS

    @pytest.fixture(autouse=True)
    def _on(self, fresh_account_url: Callable[[], str]) -> None:
        self.url = fresh_account_url()

    def harness(self, tmp_path: Path) -> Harness[BlobStore]:
        return Harness.of_url(AzureBlobStore, self.url)


@pytest.mark.slow
def test_agrees_with_the_model(fresh_account_url: Callable[[], str]) -> None:
    def build() -> AzureBlobStore:
        return AzureBlobStore.from_url(LoomURL.parse(fresh_account_url()), AdapterContext())

    run_state_machine_as_test(blobs_machine(build), settings=FAST)
