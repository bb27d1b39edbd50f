"""What a run has under way: its steps, its calls to actors, and its timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from ..codec import error_from, error_info
from ..errors import NotRunningError, OutcomeUnknownError, OverloadedError, StoreUnavailableError, TooLargeError
from .commands import Call, Command, Sleep, Step, WaitSignal
from .entries import Event, ResultRecorded
from .messages import Message

if TYPE_CHECKING:
    from .run_cell import RunCell

__all__ = ["WORK", "RunWork"]

WORK = (Step, Call)
"""The commands that need a task; the others only wait."""

_RETRYABLE = (OutcomeUnknownError, StoreUnavailableError, OverloadedError, NotRunningError)
_LONGEST_PAUSE = 10.0


class RunWork:
    """Carries out what a run has asked, once the entry that asks it is durable, and feeds back what comes of it.

    ``began`` holds the positions of steps that may have run before, in an earlier life of the run.
    """

    __slots__ = ("_cell", "_feed", "_timers", "began", "tasks")

    def __init__(self, cell: RunCell, feed: Callable[[Event], None]) -> None:
        self._cell = cell
        self._feed = feed
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, int] = {}
        self.began: set[str] = set()

    def launch(self, command: Command) -> None:
        """Begin to carry out one command."""
        host, position = self._cell.host, command.position
        if isinstance(command, WORK):
            if host.stopping:
                return  # the next host begins it
            work = self._step(command) if isinstance(command, Step) else self._call(command)
            self.tasks[position] = self._cell.spawn(work, "loom step")
        elif isinstance(command, Sleep):
            self._timers[position] = host.timers.at(command.due, lambda: self._timed_out(command, "sleep"))
        elif isinstance(command, WaitSignal) and command.due is not None:
            self._timers[position] = host.timers.at(command.due, lambda: self._timed_out(command, "timeout"))

    def keep_only(self, waiting: Collection[str]) -> None:
        """Stop the timers of commands that nobody waits for any more."""
        for position in [p for p in self._timers if p not in waiting]:
            self._cell.host.timers.cancel(self._timers.pop(position))

    def release(self) -> None:
        """Let go of everything: steps are cancelled where they stand."""
        for task in self.tasks.values():
            task.cancel()
        self.tasks.clear()
        self.keep_only(())

    def _timed_out(self, command: Command, kind: str) -> None:
        self._timers.pop(command.position, None)
        execution = self._cell.execution
        if execution is not None and execution.waiting.get(command.position) is command:
            self._feed(ResultRecorded(command.position, kind, command.name, self._cell.host.clock.now()))

    async def _step(self, command: Step) -> None:
        cell, host, name, position = self._cell, self._cell.host, command.name, command.position
        assert cell.execution is not None
        outcome = await host.steps.run(
            cell.stream, position, name, command.function, command.args, command.kwargs, command.retries,
            command.timeout, incarnation=cell.execution.incarnation,
        )  # fmt: skip
        value, error, unknown = outcome.value, outcome.error, outcome.unknown
        if value is not None and len(value) > host.options.max_message_bytes:
            value, unknown = None, True
            error = error_info(TooLargeError(
                f"step {name}: its result exceeds max_message_bytes ({host.options.max_message_bytes}); keep large "
                "values in a BlobStore and return a reference", stream=cell.stream,
            ))  # fmt: skip
        self.tasks.pop(position, None)
        unknown = unknown or (error is not None and position in self.began)
        self._feed(ResultRecorded(position, "step", name, host.clock.now(), value, error, unknown))

    async def _call(self, command: Call) -> None:
        host, pause = self._cell.host, 0.05
        while True:
            value, error = None, None
            try:
                message = _copy(command.message)
                reply = await host.router.call(message, timeout=host.options.call_timeout + 5, caller=self._cell.stream)
                value, error = reply.result, reply.error
                again = error is not None and isinstance(error_from(error), _RETRYABLE)
            except _RETRYABLE:
                again = True
            if not again:
                break
            if host.stopping:
                self.tasks.pop(command.position, None)
                return
            if host.clock.now() >= command.message.expires_at:
                error = error_info(OutcomeUnknownError(
                    f"{command.name} gave no outcome within its life of {host.options.message_life:g} s",
                    request_id=command.message.id,
                ))  # fmt: skip
                break
            await host.clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self.tasks.pop(command.position, None)
        self._feed(ResultRecorded(command.position, "call", command.name, host.clock.now(), value, error))


def _copy(message: Message) -> Message:
    """For the router, which notes in it how this attempt travels."""
    return Message(
        id=message.id, kind=message.kind, stream=message.stream, method=message.method, args=message.args,
        sent_at=message.sent_at, expires_at=message.expires_at, fingerprint=message.fingerprint,
    )  # fmt: skip
