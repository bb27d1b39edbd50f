"""A server for the tests of this package: one process for the session, an empty database for each test."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loom.testing.servers import npm_folder
from loom_cosmos.testing import CosmosServer

_HERE = Path(__file__).parent / "server"
_numbers = itertools.count(1)

# Of the suites' tests those that take seconds, most because each of their processes imports the driver.
_SLOW = frozenset(
    {
        "TestCosmosDocumentStore::test_processes_that_race_lose_no_increment",
        "TestCosmosDocumentStore::test_what_a_killed_process_had_acknowledged_is_there",
        "TestCosmosDocumentStore::test_of_racing_creations_one_wins",
        "TestCosmosDocumentStore::test_of_racing_replacements_one_wins_each_version",
        "TestCosmosJournalStore::test_concurrent_histories_are_linearizable",
        "TestCosmosJournalStore::test_histories_of_processes_are_linearizable",
        "TestCosmosJournalStore::test_processes_that_race_win_each_position_once",
        "TestCosmosJournalStore::test_what_a_killed_process_had_acknowledged_is_there",
        "TestCosmosLockManager::test_concurrent_histories_are_linearizable",
        "TestCosmosLockManager::test_concurrent_histories_with_tokens_are_linearizable",
        "TestCosmosLockManager::test_histories_of_processes_are_linearizable",
        "TestCosmosLockManager::test_processes_exclude_each_other_and_hand_over",
        "TestCosmosLockManager::test_tokens_grow_after_a_process_was_killed",
        "TestCosmosIdempotencyStore::test_of_racing_callers_one_begins",
        "TestCosmosIdempotencyStore::test_processes_that_race_do_each_key_once",
        "TestCosmosIdempotencyStore::test_taking_over_against_completing_has_one_winner",
        "TestCosmosActorRegistry::test_processes_see_and_refresh_the_same_records",
        "TestCosmosSecretsStore::test_killed_processes_that_raced_have_kept_every_version",
        "TestCosmosStateStore::test_killed_processes_that_raced_have_kept_the_newest",
        "TestCosmosStateStore::test_state_never_moves_backwards_under_racing_writers",
    }
)


# A connection that ends while the driver opens it is closed by the garbage collector: here, not in a later test.
_UNCLOSED = pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")
_IGNORED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    gc.collect()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Not as marks on the suites' own functions: those are every adapter's.
    for item in items:
        if _HERE.parent in item.path.parents:
            item.add_marker(_UNCLOSED)
            item.add_marker(_IGNORED)
        if item.nodeid.partition("::")[2] in _SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def server_package() -> Path:
    """The folder with the server's package, in the user's cache; without one the tests are skipped, saying why."""
    try:
        return npm_folder(_HERE, "cosmos")
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cosmos_server(server_package: Path) -> Iterator[CosmosServer]:
    """The npm package with our corrections."""
    command = ["node", str(_HERE / "corrected.js"), "{port}", str(server_package), "{key}"]
    with CosmosServer(command) as server:
        yield server


@pytest.fixture(scope="session")
def plain_server(server_package: Path) -> Iterator[CosmosServer]:
    """The npm package as it is."""
    cli = server_package / "node_modules" / "@vercel" / "cosmosdb-server" / "lib" / "cli.js"
    with CosmosServer(["node", str(cli), "--host", "127.0.0.1", "-p", "{port}"]) as server:
        yield server


@pytest.fixture
def fresh_url(cosmos_server: CosmosServer) -> Callable[[], str]:
    """Makes URLs of databases that nobody has used; of namespaces where a real account is to be tested."""
    account = os.environ.get("LOOM_TEST_COSMOS_URL")
    if account:
        mark = "&" if "?" in account else "?"
        return lambda: f"{account}{mark}namespace=test-{os.getpid()}-{next(_numbers)}"
    return lambda: cosmos_server.url(f"test{next(_numbers)}")


@pytest.fixture
def cosmos_url(fresh_url: Callable[[], str]) -> str:
    """A URL of an empty place."""
    return fresh_url()


@pytest.fixture
def server(cosmos_server: CosmosServer) -> Iterator[CosmosServer]:
    """The corrected server, which a test may make misbehave."""
    yield cosmos_server
    cosmos_server.control()
