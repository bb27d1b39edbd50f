"""What only another process can tell: that a store is durable by a clean end only, or right within a process only."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from loom.plugins.spec import Durability, Feature, Reach
from loom.ports.journal import JournalStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness, Suite
from loom.testing.suites.blobs import BlobStoreSuite
from loom.testing.suites.documents import DocumentStoreSuite
from loom.testing.suites.journal import JournalStoreSuite
from loom.testing.suites.locks import LockManagerSuite
from loom.testing.suites.queue import MessageQueueSuite

HISTORIES = "test_histories_of_processes_are_linearizable"
HOLDS_ALL = "test_a_stream_is_never_held_whole"
"""What the blobs made from those in memory fail by their nature."""

KILLS: list[tuple[type[Suite[Any]], str, set[str]]] = [
    (JournalStoreSuite, "LateJournal", {"what_a_killed_process_had_acknowledged_is_there"}),
    (
        MessageQueueSuite,
        "LateQueue",
        {"what_a_killed_sender_had_sent_is_there", "what_a_killed_worker_had_not_finished_comes_again"},
    ),
    (LockManagerSuite, "LateLocks", {"tokens_grow_after_a_process_was_killed"}),
    (DocumentStoreSuite, "LateDocuments", {"what_a_killed_process_had_acknowledged_is_there"}),
    (BlobStoreSuite, "LateBlobs", {"what_a_killed_process_had_acknowledged_is_there"}),
]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a module of the folder, under a name by which a child process finds it too."""
    monkeypatch.syspath_prepend(Path(__file__).with_name("apart"))
    return importlib.import_module


@pytest.mark.parametrize(("suite", "name", "kills"), KILLS, ids=[name for _, name, _ in KILLS])
def test_only_a_kill_tells_a_store_that_flushes_when_it_is_closed(
    suite: type[Suite[Any]], name: str, kills: set[str], late: Callable[[str], Any], tmp_path: Path
) -> None:
    store = getattr(late("flushes_late"), name)

    class UnderTest(suite):  # type: ignore[misc, valid-type]
        features = frozenset(Feature)
        durability = Durability.MACHINE
        reach = Reach.PROCESS

        def harness(self, tmp_path: Path) -> Harness[Any]:
            clock, path = ManualClock(), tmp_path / "data"
            return Harness(lambda: store(path, clock=clock), clock=clock, url=f"late://{path}")

    assert failing(UnderTest, tmp_path, leave_out={HOLDS_ALL}) == kills


@pytest.mark.slow
def test_only_histories_of_processes_tell_a_journal_that_is_right_within_one(
    late: Callable[[str], Any], tmp_path: Path
) -> None:
    store = late("caches_heads").CachesHeads

    class UnderTest(JournalStoreSuite):
        features = frozenset(Feature)
        durability = Durability.MACHINE
        reach = Reach.HOST

        def harness(self, tmp_path: Path) -> Harness[JournalStore]:
            return Harness.of_url(store, f"sqlite:///{tmp_path}/loom.db")

    assert failing(UnderTest, tmp_path, leave_out={HISTORIES}) == set()
    for attempt in range(25):  # it is a race: that a stale head is read at all is likely, not certain
        (tmp_path / str(attempt)).mkdir()
        with contextlib.suppress(AssertionError):
            getattr(UnderTest(), HISTORIES)(tmp_path / str(attempt))
            continue
        return
    pytest.fail("twenty-five histories of three processes each were explained")


def failing(suite: type[Suite[Any]], tmp_path: Path, leave_out: Collection[str] = ()) -> set[str]:
    """The tests of the suite that fail, without ``test_``."""
    failed = set()
    for test in [test for test in dir(suite) if test.startswith("test_") and test not in leave_out]:
        (tmp_path / test).mkdir()
        try:
            getattr(suite(), test)(tmp_path / test)
        except pytest.skip.Exception:
            pass
        except (AssertionError, pytest.fail.Exception):
            failed.add(test.removeprefix("test_"))
    return failed
