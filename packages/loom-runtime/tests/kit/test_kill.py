"""The proof of the kill: what is durable by a clean end only passes every test but those that kill a process."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from loom.plugins.spec import Durability, Feature, Reach
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness, Needs, Suite
from loom.testing.suites.blobs import BlobStoreSuite
from loom.testing.suites.documents import DocumentStoreSuite
from loom.testing.suites.journal import JournalStoreSuite
from loom.testing.suites.locks import LockManagerSuite
from loom.testing.suites.queue import MessageQueueSuite

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
def late(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, under a name by which a child process finds it too."""
    monkeypatch.syspath_prepend(Path(__file__).with_name("late"))
    return importlib.import_module("flushes_late")


@pytest.mark.parametrize(("suite", "name", "kills"), KILLS, ids=[name for _, name, _ in KILLS])
def test_only_a_kill_tells_a_store_that_flushes_when_it_is_closed(
    suite: type[Suite[Any]], name: str, kills: set[str], late: Any, tmp_path: Path
) -> None:
    store = getattr(late, name)

    class UnderTest(suite):  # type: ignore[misc, valid-type]
        features = frozenset(Feature)
        durability = Durability.MACHINE
        reach = Reach.PROCESS

        def harness(self, tmp_path: Path) -> Harness[Any]:
            clock, path = ManualClock(), tmp_path / "data"
            return Harness(lambda: store(path, clock=clock), clock=clock, url=f"late://{path}")

    failed = set()
    for test in [test for test in dir(suite) if test.startswith("test_") and test != HOLDS_ALL]:
        (tmp_path / test).mkdir()
        needs: Needs = getattr(suite, test).needs
        try:
            getattr(UnderTest(), test)(tmp_path / test)
        except pytest.skip.Exception:
            pass
        except (AssertionError, pytest.fail.Exception):
            failed.add(test.removeprefix("test_"))
            assert needs.durability > Durability.NONE
    assert failed == kills
