"""From where a failed run is retried, so that nothing that it has done is done twice or taken back in vain."""

from __future__ import annotations

from ..codec import ErrorInfo
from .entries import CancelRequested, Event, ResultRecorded, RunRetried
from .execution import Execution
from .run_history import Recorded, RunHistory, output_key

__all__ = ["decide"]


def decide(history: RunHistory, execution: Execution, at: float, request: str) -> RunRetried:
    """The event that retries a failed or cancelled run. ``execution`` is a fresh one, used up to try the choice.

    - Compensations have run: from the start, as a new incarnation.
    - The last failed result (or the cancellation) is where it ended and the code has done nothing since: as if that had
      not come. What is recorded stays.
    - The code has cleaned up by itself after that failure: from the start.
    - The code failed by itself: with everything that is recorded, from its last entry.
    """
    assert history.started is not None
    assert history.finished is not None
    incarnation = history.started.incarnation
    begin = RunRetried(at, request, incarnation + 1)
    if any(
        isinstance(e, ResultRecorded) and e.position.startswith("~") for entry in history.entries for e in entry.inputs
    ):
        return begin
    cancelled = history.finished.status == "cancelled"
    decisive = _decisive(history.entries, cancelled)
    if decisive is None:
        return RunRetried(at, request, incarnation, "open")
    index, place = decisive
    event = history.entries[index].inputs[place]
    if not _acted_since(history.entries, index, place, execution):
        return RunRetried(at, request, incarnation, "drop", history.entries[index].seq, place)
    if cancelled or (isinstance(event, ResultRecorded) and _same(event.error, history.finished.error)):
        return begin
    return RunRetried(at, request, incarnation, "open")


def _decisive(entries: list[Recorded], cancelled: bool) -> tuple[int, int] | None:
    found: tuple[int, int] | None = None
    for index, entry in enumerate(entries):
        for place, event in enumerate(entry.inputs):
            if cancelled:
                if isinstance(event, CancelRequested):
                    return index, place
            elif isinstance(event, ResultRecorded) and event.error is not None:
                found = index, place
    return found


def _acted_since(entries: list[Recorded], index: int, place: int, execution: Execution) -> bool:
    """Whether anything recorded after the event would not have happened without it."""
    execution.replaying = True
    made: list[Event] = []
    for at, entry in enumerate(entries):
        for position, event in enumerate(entry.inputs):
            if (at, position) == (index, place):
                continue
            if (at, position) > (index, place) and not execution.expects(event):
                return True
            execution.apply(event)
        outputs, _ = execution.take()
        made.extend(outputs)
    kept = {output_key(event) for event in made} | {None}
    return any(output_key(event) not in kept for entry in entries for event in entry.outputs)


def _same(one: ErrorInfo | None, other: ErrorInfo | None) -> bool:
    return one is not None and other is not None and (one.type_name, one.message) == (other.type_name, other.message)
