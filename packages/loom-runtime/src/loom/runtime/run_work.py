"""What a run has under way: its steps, its calls to actors, and its timers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

from ..codec import error_from, error_info
from ..errors import NotRunningError, OutcomeUnknownError, OverloadedError, StoreUnavailableError, TooLargeError
from .commands import Call, Command, Sleep, Step, WaitSignal
from .entries import ResultRecorded
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

    __slots__ = ("_timers", "began", "tasks")

    # The cell is handed in, not kept: what leaves memory by the thousand a second must not wait for the collector.

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, int] = {}
        self.began: set[str] = set()

    def launch(self, cell: RunCell, command: Command) -> None:
        """Begin to carry out one command."""
        host, position = cell.host, command.position
        if isinstance(command, WORK):
            if host.stopping:
                return  # the next host begins it
            work = self._step(cell, command) if isinstance(command, Step) else self._call(cell, command)
            self.tasks[position] = cell.spawn(work, "loom step")
        elif isinstance(command, Sleep):
            self._timers[position] = host.timers.at(command.due, lambda: self._timed_out(cell, command, "sleep"))
        elif isinstance(command, WaitSignal) and command.due is not None:
            self._timers[position] = host.timers.at(command.due, lambda: self._timed_out(cell, command, "timeout"))

    def keep_only(self, cell: RunCell, waiting: Collection[str]) -> None:
        """Stop the timers of commands that nobody waits for any more."""
        for position in [p for p in self._timers if p not in waiting]:
            cell.host.timers.cancel(self._timers.pop(position))

    def release(self, cell: RunCell) -> None:
        """Let go of everything: steps are cancelled where they stand."""
        for task in self.tasks.values():
            task.cancel()
        self.tasks.clear()
        self.keep_only(cell, ())

    def _timed_out(self, cell: RunCell, command: Command, kind: str) -> None:
        self._timers.pop(command.position, None)
        execution = cell.execution
        if execution is not None and execution.waiting.get(command.position) is command:
            cell.feed(ResultRecorded(command.position, kind, command.name, cell.host.clock.now()))

    async def _step(self, cell: RunCell, command: Step) -> None:
        host, name, position = cell.host, command.name, command.position
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
        cell.feed(ResultRecorded(position, "step", name, host.clock.now(), value, error, unknown))

    async def _call(self, cell: RunCell, command: Call) -> None:
        host, pause = cell.host, 0.05
        while True:
            value, error = None, None
            try:
                message = _copy(command.message)
                reply = await host.router.call(message, timeout=host.options.call_timeout + 5, caller=cell.stream)
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
        cell.feed(ResultRecorded(command.position, "call", command.name, host.clock.now(), value, error))


def _copy(message: Message) -> Message:
    """For the router, which notes in it how this attempt travels."""
    return Message(
        id=message.id, kind=message.kind, stream=message.stream, method=message.method, args=message.args,
        sent_at=message.sent_at, expires_at=message.expires_at, fingerprint=message.fingerprint,
    )  # fmt: skip
