"""The proof: what the journals say about how often each file was handled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from ..ports import JournalStore
from ..runtime.entries import Event, ResultRecorded, RunFinished, TurnCommitted, decode_entry
from ..runtime.messages import actor_stream
from .facts import Plan
from .flow import file_key
from .report import amount
from .watch import STEPS_PER_FILE, run_streams

__all__ = ["Proof", "prove"]


class Proof(msgspec.Struct):
    """What was found. ``problems`` is empty when every file was handled exactly once.

    ``begun`` counts how often steps began, by the log that they write; ``again`` how many of them began twice or more.
    """

    files: int = 0
    turns: int = 0
    steps: int = 0
    begun: int = 0
    again: int = 0
    problems: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether every file was handled exactly once."""
        return not self.problems

    def sentences(self) -> list[str]:
        """The proof for a reader."""
        if not self.holds:
            return [f"NOT every file was handled exactly once: {problem}" for problem in self.problems]
        if not self.files:
            return ["there were no files, so there is nothing to prove"]
        again = "no step ran twice this time"
        if self.again:
            again = (
                f"{amount(self.again, 'step')} ran twice: begun when the process was killed, not recorded, begun again"
            )
        return [
            f"every file was handled exactly once: {amount(self.files, 'file')}, "
            f"{amount(self.turns, 'committed turn')} (one in the journal of each file's actor), "
            f"{amount(self.steps, 'recorded step')} (each at one position)",
            "steps run at least once, and that is not the same: "
            f"{self.begun:,} began for {amount(self.steps, 'result')}; {again}",
        ]


async def prove(journal: JournalStore, plan: Plan) -> Proof:
    """Read the journals of every file's actor, of the run and of its children."""
    proof = Proof(files=len(plan.files), problems=[])
    for path in plan.files:
        proof.turns += await _check_actor(journal, plan, path, proof.problems)
    await _check_runs(journal, plan, proof)
    logged = Counter(line.split(" ", 1)[0] for line in _lines(plan.log))
    proof.begun = logged.total()
    proof.again = sum(times > 1 for times in logged.values())
    if len(logged) != proof.steps:
        proof.problems.append(f"{len(logged)} different steps began and {proof.steps} have a result")
    return proof


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


async def _check_actor(journal: JournalStore, plan: Plan, path: str, problems: list[str]) -> int:
    stream = actor_stream("DemoFile", file_key(plan.run, path))
    events = await _events(journal, stream, problems)
    turns = sum(isinstance(event, TurnCommitted) and event.state is not None for event in events)
    if turns != 1 or len(events) != 1:
        problems.append(
            f"{stream} holds {amount(turns, 'committed turn')} among {amount(len(events), 'event')}, not one"
        )
    return turns


async def _check_runs(journal: JournalStore, plan: Plan, proof: Proof) -> None:
    names: Counter[str] = Counter()
    for stream in run_streams(plan):
        events = await _events(journal, stream, proof.problems)
        results = [event for event in events if isinstance(event, ResultRecorded)]
        for position, times in Counter(event.position for event in results).items():
            if times > 1:
                proof.problems.append(f"{stream} has {times} results at position {position}")
        ends = [event.status for event in events if isinstance(event, RunFinished)]
        if ends != ["completed"]:
            ended = ", ".join(ends) or "none"
            proof.problems.append(f"{stream} should have one end, completed; it has: {ended}")
        names.update(event.name for event in results if event.error is None)
    for path in plan.files:
        steps = [f"{verb} {path}" for verb in ("hash", "count", "extract")]
        call = f"{actor_stream('DemoFile', file_key(plan.run, path))}.record"
        for name in (*steps, call):
            if names[name] != 1:
                proof.problems.append(f"{name!r} has {amount(names[name], 'result')}, not one")
        proof.steps += sum(names[name] for name in steps)
    if proof.steps != STEPS_PER_FILE * len(plan.files) and not proof.problems:
        proof.problems.append(f"{proof.steps} steps are recorded, not {STEPS_PER_FILE} for every file")


async def _events(journal: JournalStore, stream: str, problems: list[str]) -> list[Event]:
    """Every event of a stream; a gap is a problem."""
    events: list[Event] = []
    seq = 0
    while entries := await journal.read(stream, seq):
        for entry in entries:
            seq += 1
            if entry.seq != seq:
                problems.append(f"{stream} has a gap before seq {entry.seq}")
                seq = entry.seq
            events += decode_entry(stream, entry.seq, entry.data)
    return events
