"""What others ask of a run: requests become events of its journal, and questions are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..codec import decode, encode, error_info
from ..errors import CallError, InvalidArgumentsError, MessageExpiredError, RunNotFoundError, TooLargeError
from .child_outcomes import child_outcome, decode_child, finished_outcome
from .commands import ChildResult, Command, Sleep, WaitSignal
from .entries import CancelRequested, Event, ParentJoined, RunStarted, SignalReceived
from .job import Job
from .messages import Kind, Message
from .run_status import RunStatus

if TYPE_CHECKING:
    from .run_cell import RunCell

__all__ = ["published", "status", "take"]


def take(cell: RunCell, job: Job, inputs: list[Event]) -> bytes:
    """Turn a request into an event, or look up what it asks; the answer, which holds once the event is durable."""
    message, host, history = job.message, cell.host, cell.run_history
    now = host.clock.now()
    started = history.started is not None or any(isinstance(event, RunStarted) for event in inputs)
    if message.kind in (Kind.START, Kind.RUN):
        return _start(cell, message, inputs, now, started)
    if not started:
        raise RunNotFoundError(
            f"no run {cell.run_id!r} of {cell.workflow.name}; start it, or list runs with 'loom runs list'",
            workflow=cell.workflow.name,
            run_id=cell.run_id,
        )
    if message.kind is Kind.STATUS:
        return encode(status(cell))
    if message.kind is Kind.GET:
        return published(cell, message.method)
    if message.id in history.requests:
        return encode(True)
    check_life(cell, message, now)
    finished = history.finished
    if finished is not None:
        if message.kind in (Kind.CANCEL, Kind.CHILD):
            return encode(False)
        raise CallError(
            f"{cell.stream} is {finished.status}; it takes no more signals", stream=cell.stream, status=finished.status
        )
    if message.kind is Kind.SIGNAL:
        _check_signal(cell, message)
        until = (message.expires_at or now + host.options.message_life) if message.remember else 0.0
        inputs.append(SignalReceived(message.method, message.args, now, message.id if until else "", until))
    elif message.kind is Kind.CANCEL:
        inputs.append(CancelRequested(str(decode(message.args) or ""), now, message.id))
    elif message.kind is Kind.CHILD:
        outcome = decode_child(message.args)
        incarnation, _, outcome.position = outcome.position.rpartition(":")
        if incarnation != str(history.started.incarnation if history.started else 0):
            return encode(False)  # of a child that an earlier incarnation had started
        if cell.execution is not None and cell.execution.has_outcome(outcome.position):
            return encode(True)  # recorded by a host that had no time left to ack it
        outcome.at = max(outcome.at, now)
        inputs.append(outcome)
        history.requests[message.id] = 0.0
    history.remember(inputs[-1])
    return encode(True)


def _start(cell: RunCell, message: Message, inputs: list[Event], now: float, started: bool) -> bytes:
    joining = ParentJoined(message.parent, message.position, now, message.id)
    if started:
        finished = cell.run_history.finished
        if not message.parent or message.id in cell.run_history.requests:
            pass
        elif finished is not None:
            cell.tell(finished_outcome(cell.stream, joining, finished))
        elif cell.run_history.started is None or cell.run_history.started.message.id != message.id:
            inputs.append(joining)
            cell.run_history.remember(joining)
        return encode(False)
    try:
        check_life(cell, message, now)
        cell.workflow.signature.decode(message.args)
    except Exception as error:
        if not message.parent:
            raise
        cell.tell(child_outcome(cell.stream, joining, now, None, error_info(error)))
        return encode(False)
    inputs.insert(0, RunStarted(message, max(now, 0.0)))
    return encode(True)


def check_life(cell: RunCell, message: Message, now: float) -> None:
    """Raise for a request that is too old or too large to be run."""
    if message.expires_at and now >= message.expires_at:
        raise MessageExpiredError(f"{cell.stream}: the request expired and was not run", request_id=message.id)
    limit = cell.host.options.max_message_bytes
    if len(message.args) > limit:
        raise TooLargeError(
            f"{cell.stream}: {message.method or message.kind.name.lower()} carries {len(message.args)} bytes, more "
            f"than "
            f"max_message_bytes ({limit}); keep large values in a BlobStore and send a reference", stream=cell.stream,
        )  # fmt: skip


def _check_signal(cell: RunCell, message: Message) -> None:
    """A waiting workflow says which type it wants; a sender hears at once when the value does not fit."""
    for command in () if cell.execution is None else cell.execution.waiting.values():
        if isinstance(command, WaitSignal) and command.name == message.method:
            try:
                command.decode(message.args)
            except msgspec.MsgspecError as error:
                raise InvalidArgumentsError(
                    f"{cell.stream}: signal {message.method!r} does not fit what the workflow waits for: {error}",
                    stream=cell.stream,
                ) from error
            return


def status(cell: RunCell, stopped: Exception | None = None) -> RunStatus:
    """What the run is doing."""
    history, execution = cell.run_history, cell.execution
    finished = history.finished
    assert history.started is not None
    state = finished.status if finished is not None else ("stopped" if stopped is not None else "running")
    error = None if stopped is None else str(stopped)
    if finished is not None and finished.error is not None:
        error = f"{finished.error.type_name}: {finished.error.message}"
    return RunStatus(
        workflow=cell.workflow.name, run_id=cell.run_id, status=state, started_at=history.since,
        finished_at=None if finished is None else finished.at, steps_done=execution.steps_done if execution else 0,
        waiting_for=[] if execution is None or finished else [describe(c) for c in execution.waiting.values()],
        incarnation=history.started.incarnation, error=error,
        cancel_requested=execution is not None and execution.cancel_reason is not None,
    )  # fmt: skip


def published(cell: RunCell, name: str) -> bytes:
    """A published value, as of the last entry."""
    finished, execution = cell.run_history.finished, cell.execution
    if finished is not None:
        values = finished.published
    else:
        values = execution.published if execution is not None else cell.run_history.published
    if name not in values:
        raise LookupError(f"{cell.stream} has published no {name!r}; it has: {', '.join(sorted(values)) or 'nothing'}")
    return values[name]


def describe(command: Command) -> str:
    """What a command waits for, for people."""
    if isinstance(command, WaitSignal):
        return f"signal {command.name!r}"
    if isinstance(command, Sleep):
        return f"sleep until {command.due:.3f}"
    if isinstance(command, ChildResult):
        return f"child {command.name}"
    return f"{command.kind} {command.name}"
