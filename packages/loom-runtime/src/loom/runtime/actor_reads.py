"""Reads: ``@read_only`` handlers, beside the turns, on the newest committed state."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..actor import Handler
from ..codec import encode
from ..errors import ReadOnlyViolationError
from . import actor_commit, invocation
from .job import Job
from .messages import Reply
from .turn import Turn

if TYPE_CHECKING:
    from .actor_cell import ActorCell

__all__ = ["read"]


async def read(cell: ActorCell, job: Job, handler: Handler) -> None:
    """Answer a ``@read_only`` request; the cell has counted it in ``reading``. Never raises but when cancelled."""
    host, turn = cell.host, None
    if not await host.may_start(job):
        cell.reading -= 1
        return
    try:
        await cell.activated()
        if not await _fresh(cell, handler):
            await actor_commit.conflict(cell)
            host.redirect(job)
            return
        args = handler.signature.decode(job.message.args)
        limit = cell.kind.cls.turn_deadline or host.options.turn_deadline
        turn = Turn(cell, job.message, handler, cell.copy_state(), host.clock.monotonic() + limit, job)
        host.turns_running += 1
        before = encode(turn.state)
        value = await invocation.invoke(cell, turn, handler, args, limit)
        if encode(turn.state) != before:
            raise ReadOnlyViolationError(f"{turn.where} changed the state; it is @read_only", where=turn.where)
        if not turn.abandoned:
            host.answer(job, Reply(job.message.id, handler.signature.encode_result(value)))
    except asyncio.CancelledError:
        if turn is None or not turn.abandoned:
            host.interrupted(job)
            raise
    except Exception as error:
        if turn is None or not turn.abandoned:
            host.fail(job, error, ran=turn is not None)
    finally:
        if turn is None:
            host.turn_ended(job)
        else:
            invocation.end(cell, turn)
        if turn is None or not turn.abandoned:
            cell.reading -= 1


async def _fresh(cell: ActorCell, handler: Handler) -> bool:
    """Whether the committed state is still the stream's newest, as far as the handler asks."""
    host = cell.host
    if host.placement.alone:
        return True
    if handler.stale_ok and host.clock.monotonic() - cell.confirmed_at <= handler.stale_ok:
        return True
    while True:
        asked = host.clock.monotonic()
        head = await host.committer.confirm(cell.stream)
        if (head.seq, head.entry_id) == (cell.head.seq, cell.head.entry_id) or head.seq < cell.head.seq:
            cell.confirmed_at = asked
            return True
        if cell.committing is None:
            return False
        await asyncio.shield(cell.committing)
