"""How a run comes back: its journal read, and its function driven to where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NonDeterminismError
from .entries import (
    ChildStarted,
    Event,
    RunContinued,
    RunFinished,
    StepBegan,
    decode_entry,
)
from .execution import Execution
from .messages import Message
from .run_history import RunHistory, output_key

if TYPE_CHECKING:
    from .run_cell import RunCell

__all__ = ["read_history", "replay"]


async def read_history(cell: RunCell) -> RunHistory:
    """What the run's journal amounts to; sets the cell's head."""
    host, history = cell.host, RunHistory()
    cell.head = head = await host.journal.head(cell.stream)
    if head.seq == 0:
        return history
    snapshot = await host.journal.read_snapshot(cell.stream) if head.snapshot_seq else None
    if snapshot is not None:
        history.add(snapshot.seq, decode_entry(cell.stream, snapshot.seq, snapshot.data, host.codecs))
    async for seq, events in cell.history(snapshot, head):
        history.add(seq, events)
    return history


def replay(stream: str, history: RunHistory, execution: Execution, now: float) -> tuple[list[Event], list[Message]]:
    """Drive the execution through everything recorded.

    Gives the outputs that are not recorded (after a retry, or where the code now reaches an end), and the messages that
    a retry sends again under new ids. Raises
    NonDeterminismError when the code asks for something else than what is recorded.
    """
    left: list[Event] = []
    messages: list[Message] = []
    execution.replaying = True
    for entry in history.entries:
        if execution.finished is not None and entry.inputs:
            raise NonDeterminismError(
                f"{stream}: the code has ended before the entry at seq {entry.seq}, where the journal goes on with "
                f"{type(entry.inputs[0]).__name__}. The run is stopped, its journal is untouched; deploy the code "
                f"that wrote "
                "it, or guard the change with ctx.version",
                stream=stream, seq=entry.seq, recorded=type(entry.inputs[0]).__name__, asked="the end",
            )  # fmt: skip
        for event in entry.inputs:
            execution.apply(event)
        made, _ = execution.take()
        left = compare(stream, entry.seq, entry.outputs, left + made) if entry.exact else left + made
        messages.extend(e.message for e in made if isinstance(e, ChildStarted) and e.position in history.retries)
    execution.replaying = False
    return left, [m for m in messages if not m.expires_at or now < m.expires_at]


def began(history: RunHistory) -> set[str]:
    """The positions of steps that may have run already, for all that is known."""
    return {event.position for entry in history.entries for event in entry.outputs if isinstance(event, StepBegan)}


def compare(stream: str, seq: int, recorded: list[Event], made: list[Event]) -> list[Event]:
    """Raise unless a replayed entry made what is recorded; what remains is an end that the code now reaches."""
    before = {key for event in recorded if (key := output_key(event))}
    now = {key for event in made if (key := output_key(event))}
    for key in sorted(before ^ now):
        recorded_text, asked_text = (key, "nothing of the kind") if key in before else ("nothing of the kind", key)
        position = key.rpartition(" ")[2]
        raise NonDeterminismError(
            f"{stream}: at position {position} the entry at seq {seq} has {recorded_text}, the code made "
            f"{asked_text}. The "
            "run is stopped, its journal is untouched; deploy the code that wrote it, or guard the change with "
            "ctx.version",
            stream=stream, seq=seq, position=position, recorded=recorded_text, asked=asked_text,
        )  # fmt: skip
    if any(isinstance(event, RunFinished | RunContinued) for event in recorded):
        return []
    return [event for event in made if isinstance(event, RunFinished | RunContinued)]
