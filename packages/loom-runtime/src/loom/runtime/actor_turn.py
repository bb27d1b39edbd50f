"""A turn of an actor: from its request to its outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..codec import error_info
from ..errors import (
    IdempotencyConflictError,
    JournalConflictError,
    LoomError,
    MessageExpiredError,
    OutcomeUnknownError,
    TooLargeError,
)
from . import actor_commit, actor_state, invocation
from .actor_state import Committed
from .crashpoints import crash_point
from .entries import TurnCommitted
from .job import Job
from .messages import Kind, Message, Reply
from .turn import Turn

if TYPE_CHECKING:
    from .actor_cell import ActorCell

__all__ = ["give_up", "run"]


async def run(cell: ActorCell, job: Job) -> None:
    """Serve one request: from the journal if it was answered before, else by a turn. The answer goes to the host.

    Raises when the outcome could not be settled here: the cell must then be read again.
    """
    host, message, committed = cell.host, job.message, cell.committed
    assert committed is not None
    cell.used_at = host.clock.monotonic()
    if job.future is not None and job.future.done():
        return  # whoever asked has gone, and nothing was run
    answered = _recall(cell, message, committed)
    if answered is not None:
        host.answer(job, answered, committed.sending if committed.unsent else None)
        return
    now, unfinished = host.clock.now(), committed.unfinished
    if message.expires_at and now >= message.expires_at and unfinished is None:
        host.refuse(job, MessageExpiredError(
            f"{cell.stream}.{message.method}: the request expired {now - message.expires_at:.1f} s ago and was "
            "not run; send it again as a new request", stream=cell.stream, request_id=message.id,
        ))  # fmt: skip
        return
    if not await host.may_start(job):
        return
    crash_point("turn.begin")
    limit = cell.kind.cls.turn_deadline or host.options.turn_deadline
    turn = cell.turn = Turn(
        cell, message, cell.kind.handlers.get(message.method), None, host.clock.monotonic() + limit, job
    )
    if unfinished is not None:
        turn.began = True
        turn.memo = unfinished.steps
    host.turns_running += 1
    try:
        result, state = await _handle(cell, turn, limit)
    except asyncio.CancelledError:
        if not turn.abandoned:
            host.interrupted(job)
            raise
    except Exception as error:
        await _close(cell, turn)
        if not turn.abandoned:
            await _failed(cell, job, turn, error)
    else:
        await _close(cell, turn)
        if not turn.abandoned:
            await _succeeded(cell, job, turn, result, state)
    finally:
        invocation.end(cell, turn)


async def _handle(cell: ActorCell, turn: Turn, limit: float) -> tuple[bytes, bytes]:
    handler = invocation.handler_of(cell, turn.message)
    args = handler.signature.decode(turn.message.args)
    turn.state = cell.copy_state()
    value = await invocation.invoke(cell, turn, handler, args, limit)
    crash_point("turn.handled")
    return handler.signature.encode_result(value), cell.encode_state(turn)


async def _close(cell: ActorCell, turn: Turn) -> None:
    invocation.end(cell, turn)
    if turn.recording:
        await turn.recorded()


async def give_up(cell: ActorCell, turn: Turn, job: Job) -> None:
    """End a turn whose handler was abandoned, and drop the cell: the handler may still hold on to it."""
    try:
        await turn.recorded()
        await _failed(cell, job, turn, turn.deadline_error())
    finally:
        cell.retired = True
        cell.host.drop(cell)
        cell.redirect_all()


async def _succeeded(cell: ActorCell, job: Job, turn: Turn, result: bytes, state: bytes) -> None:
    host, message, committed = cell.host, job.message, cell.committed
    assert committed is not None
    effects = turn.effects
    now = host.clock.now()
    entry = TurnCommitted(
        request=message.id, method=message.method, at=now, state=state, version=cell.kind.state_version,
        result=result, remember_until=_remember_until(cell, message, now),
        fingerprint=message.fingerprint, outgoing=effects.outgoing, reminders=effects.reminders,
        forgotten=effects.forgotten, sent=committed.sent,
    )  # fmt: skip
    try:
        if len(state) + len(result) > host.options.max_message_bytes:
            raise TooLargeError(
                f"{turn.where}: state ({len(state)} bytes) and result ({len(result)}) exceed max_message_bytes "
                f"({host.options.max_message_bytes}); keep large values in a BlobStore and refer to them",
                stream=cell.stream,
            )
        if effects.reminders or (effects.outgoing and job.delivery is None):
            dues = [r.due for r in effects.reminders]
            await actor_commit.ensure_pending(cell, now if effects.outgoing and job.delivery is None else min(dues))
            crash_point("turn.pending")
        sending = await actor_commit.commit(cell, entry)
    except JournalConflictError:
        await actor_commit.conflict(cell)
        host.redirect(job)
    except OutcomeUnknownError as error:
        actor_commit.unsure(cell)
        host.unknown(job, error)
    except Exception as error:
        await _failed(cell, job, turn, error)
    else:
        crash_point("turn.committed")
        host.answer(job, Reply(message.id, result), sending)
        if committed.entries_since_snapshot >= host.options.snapshot_every:
            await actor_state.snapshot_when_worth(cell)


async def _failed(cell: ActorCell, job: Job, turn: Turn, error: Exception) -> None:
    host, message, committed = cell.host, job.message, cell.committed
    assert committed is not None
    unfinished, final = committed.unfinished is not None, host.is_final(error)
    # An answer that may be asked for again must stay the same answer.
    keep = message.remember and message.kind is not Kind.SEND and final
    if unfinished and not final:
        _leave_unfinished(cell, job, error)
        return
    if unfinished or keep:
        now = host.clock.now()
        entry = TurnCommitted(
            request=message.id, method=message.method, at=now, state=None, version=cell.kind.state_version,
            error=error_info(error), remember_until=_remember_until(cell, message, now) if keep else 0.0,
            fingerprint=message.fingerprint, sent=committed.sent,
        )  # fmt: skip
        try:
            await actor_commit.commit(cell, entry)
        except JournalConflictError:
            await actor_commit.conflict(cell)
            host.redirect(job)
            return
        except OutcomeUnknownError as unknown:
            actor_commit.unsure(cell)
            host.unknown(job, unknown)
            return
        except LoomError as commit_error:
            if unfinished:
                _leave_unfinished(cell, job, commit_error)
            else:
                host.fail(job, commit_error)
            return
    host.fail(job, error)


def _leave_unfinished(cell: ActorCell, job: Job, error: Exception) -> None:
    """Steps of the turn are recorded and its end could not be: whoever activates next finishes it."""
    actor_commit.unsure(cell)
    unknown = OutcomeUnknownError(
        f"{cell.stream}.{job.message.method} has begun and will be finished later; for now: {error}",
        stream=cell.stream,
    )
    unknown.__cause__ = error
    cell.host.unknown(job, unknown)


def _remember_until(cell: ActorCell, message: Message, now: float) -> float:
    """Until when to keep the answer: as long as the request may come again, and somewhat longer than its turn."""
    if not message.remember:
        return 0.0
    options = cell.host.options
    return max(message.expires_at or now + options.idempotency_window, now + options.call_timeout, message.memory)


def _recall(cell: ActorCell, message: Message, committed: Committed) -> Reply | None:
    remembered = committed.recall(message.id)
    if remembered is None:
        return None
    if remembered.fingerprint != message.fingerprint:
        return Reply(message.id, error=error_info(IdempotencyConflictError(
            f"{cell.stream}.{message.method}: the idempotency key {message.id.split('/', 2)[-1]!r} was used "
            f"with other "
            "arguments; use a new key for a new request", stream=cell.stream, request_id=message.id,
        )))  # fmt: skip
    return Reply(message.id, remembered.result, remembered.error)
