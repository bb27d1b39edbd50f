"""Running a handler: until it returns, fails, or has had its time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from ..actor import Handler
from ..errors import LeftoverTasksError, UnknownMethodError
from ..interceptors import TurnInfo, nest
from .messages import Message
from .turn import Turn, current_turn, leftover

if TYPE_CHECKING:
    from .actor_cell import ActorCell

__all__ = ["abandon", "end", "handler_of", "invoke"]

_GRACE = 5.0
"""Seconds that a handler has to end after it was cancelled."""


def handler_of(cell: ActorCell, message: Message) -> Handler:
    """The handler that a request asks for. Raises UnknownMethodError."""
    handler = cell.kind.handlers.get(message.method)
    if handler is None:
        raise UnknownMethodError(
            f"{cell.kind.name} has no handler {message.method!r}; it has: {', '.join(cell.kind.handlers)}",
            actor=cell.kind.name,
            method=message.method,
        )
    return handler


async def invoke(cell: ActorCell, turn: Turn, handler: Handler, args: dict[str, Any], limit: float) -> Any:
    """Run a handler of the actor to its end, or to the end of ``limit`` seconds, and give what it returned.

    Raises what the handler raised, TurnDeadlineError, and LeftoverTasksError when tasks that it had started still ran
    (they are cancelled). A handler that swallows its cancellation is abandoned: its end is nobody's business any more.
    """
    instance = cell.facade(turn)
    task = asyncio.current_task()
    assert task is not None
    watchdog = cell.host.deadlines.after(limit, partial(_overdue, cell, turn, task))
    token = current_turn.set(turn)
    try:
        if cell.host.interceptors:
            info = TurnInfo(
                stream=cell.stream, method=handler.name, request_id=turn.message.id, read_only=handler.read_only
            )
            proceed = nest(cell.host.interceptors, "turn", info, lambda: handler.function(instance, **args))
            value = await proceed()
        else:
            value = await handler.function(instance, **args)
        if turn.timed_out:
            raise turn.deadline_error()
    except asyncio.CancelledError as error:
        if turn.timed_out and not turn.abandoned:
            raise turn.deadline_error() from None
        if turn.abandoned or (task is not None and task.cancelling()):
            raise
        raise RuntimeError(f"{turn.where} raised CancelledError by itself") from error
    except SystemExit as error:
        raise RuntimeError(f"{turn.where} tried to exit the process: {error!r}") from error
    finally:
        current_turn.reset(token)
        watchdog.cancel()
        if turn.timed_out and task is not None:
            task.uncancel()
        strays = leftover(turn) if turn.tasks else []
        for stray in strays:
            stray.cancel()
    if strays:
        names = ", ".join(str(getattr(stray.get_coro(), "__qualname__", stray.get_name())) for stray in strays)
        raise LeftoverTasksError(
            f"{turn.where} returned while tasks that it had started still ran: {names}. They were cancelled and "
            "nothing was committed; await them, or use ctx.send or a workflow",
            where=turn.where,
        )
    return value


def _overdue(cell: ActorCell, turn: Turn, task: asyncio.Task[Any]) -> None:
    if turn.closed or turn.timed_out:
        return
    turn.timed_out = True
    task.cancel()
    cell.host.deadlines.after(_GRACE, partial(abandon, cell, turn))


def abandon(cell: ActorCell, turn: Turn) -> None:
    """Leave a handler behind that swallowed its cancellation; the actor goes on without it."""
    if turn.ended or turn.closed:
        return
    turn.abandoned = True
    if turn.job is None:
        turn.closed = True
        return
    end(cell, turn)
    cell.left_behind(turn, turn.job)


def end(cell: ActorCell, turn: Turn) -> None:
    """Be done with the handler, once: from here nothing that it left behind can reach the turn."""
    turn.closed = True
    if not turn.ended and turn.job is not None:
        turn.ended = True
        cell.host.turns_running -= 1
        cell.host.turn_ended(turn.job)
        if cell.turn is turn:
            cell.turn = None
