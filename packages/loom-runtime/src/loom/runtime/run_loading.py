"""How a run comes into memory: read from its journal, continued as its next incarnation, or retried after its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ..codec import encode
from ..errors import CallError, PortError, RunNotFoundError
from ..ports import Head, Snapshot
from .commands import Command
from .crashpoints import crash_point
from .entries import Event, RunContinued, RunStarted, encode_entry
from .job import Job
from .messages import Message, Reply
from .pending import PendingRecord, run_record
from .run_replay import began, read_history, replay
from .run_requests import check_life
from .run_retry import decide
from .run_work import WORK

if TYPE_CHECKING:
    from .run_cell import RunCell

__all__ = ["go_on", "load", "retry"]


async def load(cell: RunCell) -> None:
    """Read the run and bring it to where it stood. Raises what the journal raises, and NonDeterminismError."""
    history = cell.run_history = await read_history(cell)
    if history.started is None:
        if not cell.mailbox:
            # Resumed for a record whose first entry was never written: nothing was promised to anybody.
            await cell.host.pending.remove(cell.shard, cell.stream)
        return
    record = await cell.record.load(cell)
    history.since = record.since or history.since
    finished = history.finished
    if finished is None:
        await _replay(cell, record)
    elif record.due is not None or record.status != finished.status:
        if messages := _promised(cell):
            cell.send(messages)
        cell.close_record(finished)


async def _replay(cell: RunCell, record: PendingRecord) -> None:
    history, now = cell.run_history, cell.host.clock.now()
    assert history.started is not None
    asked: list[Command] = []
    left: list[Event] = []
    messages: list[Message] = []
    if history.begin_again:
        cell.inputs = [*history.begin_again, *cell.inputs]
    else:
        execution = cell.execution = cell.new_execution(history.started.incarnation, history)
        left, messages = replay(cell.stream, history, execution, now)
        cell.work.began = began(history)
        asked = list(execution.waiting.values())
    quiet = not cell.inputs and not any(isinstance(command, WORK) for command in asked)
    late = record.due is None or record.due > now or record.status != "running"
    if late or (quiet and record.resumed):
        record.due = now if late else record.due
        record.status, record.ended, record.error = "running", None, None
        record.resumed = 0 if quiet else record.resumed
        await cell.record.put(cell, record)
    if messages := [*_promised(cell), *messages]:
        await cell.send(messages)
    if not history.begin_again:
        await cell.commit(left, left, asked, [])


def _promised(cell: RunCell) -> list[Message]:
    """What a crash may have kept from the queue; messages that were queued are recognised by their ids."""
    now = cell.host.clock.now()
    return [m for m in cell.run_history.promised if not m.expires_at or now < m.expires_at]


async def go_on(cell: RunCell, event: RunContinued) -> None:
    """Begin the run's next incarnation, the journal behind it shortened when it has grown long."""
    host, history = cell.host, cell.run_history
    cell.release()
    cell.work.began.clear()
    started = history.started
    assert started is not None
    head = cell.head
    if head.seq - head.snapshot_seq >= host.options.snapshot_every:
        if cell.sent is not None:  # what is behind a snapshot is not read again, and so not sent again
            await asyncio.wait([cell.sent])
        data = encode_entry([RunStarted(started.message, history.since, started.incarnation), event], host.codecs)
        # A snapshot saves reading, no more: the run goes on without it.
        with contextlib.suppress(PortError):
            await host.journal.write_snapshot(cell.stream, Snapshot(head.seq, data))
            cell.head = Head(head.seq, head.entry_id, head.fence, head.seq)
            crash_point("snapshot.written")
            if head.seq > host.options.retain_entries:
                await host.journal.trim(cell.stream, head.seq - host.options.retain_entries)
    history.add(head.seq, [event])
    cell.inputs = history.begin_again


async def retry(cell: RunCell, job: Job) -> None:
    """Take back the end of a failed or cancelled run, as ``run_retry.decide`` says; the run is then read anew.

    Raises RunNotFoundError, and CallError for a run that has not failed.
    """
    host, message, now = cell.host, job.message, cell.host.clock.now()
    history = await read_history(cell)
    if history.started is None:
        raise RunNotFoundError(
            f"no run {cell.run_id!r} of {cell.workflow.name}", workflow=cell.workflow.name, run_id=cell.run_id
        )
    if message.id in history.requests:
        host.answer(job, Reply(message.id, encode(True)))
        return
    check_life(cell, message, now)
    if history.finished is None or history.finished.status == "completed":
        state = "running" if history.finished is None else history.finished.status
        raise CallError(f"{cell.stream} is {state}; only failed and cancelled runs can be retried", stream=cell.stream)
    trial = cell.new_execution(history.started.incarnation, history)
    try:
        event = decide(history, trial, now, message.id)
    finally:
        trial.close()
    await cell.record.put(cell, run_record(cell.stream, due=now, status="running", since=cell.run_history.since))
    if await cell.append_or_retire([event], [(job, b"")]):
        host.answer(job, Reply(message.id, encode(True)))
        cell.retired = True
        host.wake_at(now, cell.stream)
