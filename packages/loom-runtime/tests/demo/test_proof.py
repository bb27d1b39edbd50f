"""The proof must fail when a journal says that something was done twice, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loom.adapters.memory.journal import InMemoryJournalStore
from loom.demo.facts import Plan
from loom.demo.proof import prove
from loom.ports import Append, JournalStore
from loom.runtime.entries import Event, ResultRecorded, RunFinished, TurnCommitted, encode_entry

RUN = "run/read_folder/demo-1"
FILE = "actor/DemoFile/demo-1/a.txt"
TURN = TurnCommitted("request", "record", 1.0, b"\x90", 1)
RESULTS: list[Event] = [
    ResultRecorded("0", "step", "pages_of", 1.0, b"\x01"),
    ResultRecorded("1", "step", "files of page 0", 1.0, b"\x91\xa5a.txt"),
    ResultRecorded("2.0/0", "step", "hash a.txt", 1.0, b"\x90"),
    ResultRecorded("2.0/1", "step", "count a.txt", 1.0, b"\x90"),
    ResultRecorded("2.0/2", "step", "extract a.txt", 1.0, b"\x90"),
    ResultRecorded("2.0/3", "call", f"{FILE}.record", 1.0, b"\x90"),
]
END = RunFinished("completed", 2.0)


async def append(journal: JournalStore, stream: str, *events: Event) -> None:
    head = await journal.head(stream)
    await journal.append(Append(stream, head.seq, head.entry_id, f"{stream}-{head.seq}", encode_entry(list(events))))


@pytest.fixture
async def journal() -> AsyncIterator[InMemoryJournalStore]:
    async with InMemoryJournalStore() as store:
        yield store


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    log = tmp_path / "steps.log"
    log.write_text("key-1 10 'hash a.txt'\nkey-2 10 'count a.txt'\nkey-2 11 'count a.txt'\nkey-3 11 'extract a.txt'\n")
    return Plan("demo-1", str(tmp_path), ["a.txt"], 0.0, str(log), str(tmp_path / "report.md"))


async def test_holds_for_a_whole_journal(journal: JournalStore, plan: Plan) -> None:
    await append(journal, FILE, TURN)
    await append(journal, RUN, *RESULTS, END)
    proof = await prove(journal, plan)
    assert proof.holds
    assert proof.sentences() == [
        "every file was handled exactly once: 1 file, 1 committed turn (one in the journal of each file's actor), "
        "3 recorded steps (each at one position)",
        "steps run at least once, and that is not the same: 4 began for 3 results; "
        "1 step ran twice: begun when the process was killed, not recorded, begun again",
    ]


async def test_catches_a_second_turn(journal: JournalStore, plan: Plan) -> None:
    await append(journal, FILE, TURN)
    await append(journal, FILE, TURN)
    await append(journal, RUN, *RESULTS, END)
    proof = await prove(journal, plan)
    assert proof.problems == [f"{FILE} holds 2 committed turns among 2 events, not one"]
    assert proof.sentences()[0].startswith("NOT every file was handled exactly once")


async def test_catches_a_missing_turn(journal: JournalStore, plan: Plan) -> None:
    await append(journal, RUN, *RESULTS, END)
    assert (await prove(journal, plan)).problems == [f"{FILE} holds 0 committed turns among 0 events, not one"]


async def test_catches_a_position_recorded_twice(journal: JournalStore, plan: Plan) -> None:
    await append(journal, FILE, TURN)
    await append(journal, RUN, *RESULTS)
    await append(journal, RUN, RESULTS[2], END)
    problems = (await prove(journal, plan)).problems
    assert f"{RUN} has 2 results at position 2.0/0" in problems
    assert "'hash a.txt' has 2 results, not one" in problems


async def test_catches_a_step_recorded_at_two_positions(journal: JournalStore, plan: Plan) -> None:
    await append(journal, FILE, TURN)
    again = ResultRecorded("2.1/0", "step", "hash a.txt", 1.0, b"\x90")
    await append(journal, RUN, *RESULTS, again, END)
    assert "'hash a.txt' has 2 results, not one" in (await prove(journal, plan)).problems


async def test_catches_a_missing_step_and_a_missing_end(journal: JournalStore, plan: Plan) -> None:
    await append(journal, FILE, TURN)
    await append(journal, RUN, *RESULTS[:4], *RESULTS[5:])
    problems = (await prove(journal, plan)).problems
    assert "'extract a.txt' has 0 results, not one" in problems
    assert f"{RUN} should have one end, completed; it has: none" in problems
    assert "3 different steps began and 2 have a result" in problems


async def test_catches_a_second_end(journal: JournalStore, plan: Plan) -> None:
    await append(journal, FILE, TURN)
    await append(journal, RUN, *RESULTS, END)
    await append(journal, RUN, END)
    assert (await prove(journal, plan)).problems == [
        f"{RUN} should have one end, completed; it has: completed, completed"
    ]
