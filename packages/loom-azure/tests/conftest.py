"""A real Azurite for the tests of this package: one process for the session, an empty namespace for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loom_azure.testing import AzuriteServer, azurite_program

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def azurite_script() -> Path:
    """Azurite's program; without it the test is skipped, saying what to install."""
    try:
        return azurite_program(Path(__file__).parent / "node")
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def azurite(azurite_script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    with AzuriteServer(azurite_script, Path(tmp_path_factory.mktemp("azurite"))) as server:
        yield server


@pytest.fixture
def fresh_url(azurite: AzuriteServer) -> Callable[[], str]:
    """Makes URLs of a namespace that nobody has used."""
    return lambda: azurite.url("tests", namespace=f"test-{next(_numbers)}")


@pytest.fixture
def blob_url(fresh_url: Callable[[], str]) -> str:
    """Such a URL."""
    return fresh_url()
