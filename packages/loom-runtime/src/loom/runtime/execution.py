"""The execution of a workflow function: deterministic, without I/O, driven by the events of its journal.

``apply(event)`` feeds one recorded event and runs the function until it waits again. What the function asks meanwhile
is collected: ``outputs`` are events that belong into the same entry, ``asked`` are commands to carry out once that
entry is durable. A replay feeds the same events and must ask the same; live and replay take the same path.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections import deque
from typing import Any, NoReturn

from ..codec import encode, error_from, error_info
from ..context import Context
from ..errors import NonDeterminismError, TooLargeError, WorkflowCancelledError
from ..references import ActorMethod
from ..resources import Resources
from ..workflow import Workflow
from .asking import Asking, ContinueAsNew
from .child_outcomes import finished_outcome
from .commands import Call, ChildResult, Command, Gather, Sleep, StartChild, Step, WaitSignal
from .determinism import Sealed, refused
from .entries import (
    CancelRequested,
    Event,
    ParentJoined,
    ResultRecorded,
    RunContinued,
    RunFinished,
    RunStarted,
    SignalReceived,
    StepBegan,
)
from .messages import Kind
from .run_logger import RunLogger
from .steps import StepRunner
from .strands import Compensation, Group, Strand, as_coroutine, dispose

__all__ = ["Execution"]

_COMPENSATION_RETRIES = 5
_log = logging.getLogger("loom.workflow")


class Execution(Asking):
    """One incarnation of a run in memory."""

    __slots__ = (
        "_children", "_compensating", "_groups", "_logger", "_max_bytes", "_parents", "_random", "_ready",
        "_strands", "asked", "cancel_reason", "finished", "resources", "run_id", "steps_done", "unread",
        "waiting",
    )  # fmt: skip

    def __init__(
        self, stream: str, run_id: str, workflow: Workflow[Any, Any], steps: StepRunner, resources: Resources,
        message_life: float, *, incarnation: int = 0, versions: dict[str, int] | None = None,
        published: dict[str, bytes] | None = None, retries: dict[str, int] | None = None,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> None:  # fmt: skip
        self.stream = stream
        self.run_id = run_id
        self.workflow = workflow
        self.resources = resources
        self.incarnation = incarnation
        self.at = 0.0
        self.replaying = False
        self.closed = False
        self.published: dict[str, bytes] = dict(published or {})
        self.outputs: list[Event] = []
        self.asked: list[Command] = []
        self.waiting: dict[str, Command] = {}
        self.unread: list[SignalReceived] = []
        self.finished: RunFinished | RunContinued | None = None
        self.cancel_reason: str | None = None
        self.steps_done = 0
        self._steps = steps
        self._life = message_life
        self._max_bytes = max_bytes
        self._versions = versions or {}
        self._retries = retries or {}
        self._refusal: NonDeterminismError | None = None
        self._random: _random.Random | None = None
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None
        self._strands: dict[str, Strand] = {}
        self._ready: deque[tuple[Strand, Any, BaseException | None]] = deque()
        self._current: Strand | None = None
        self._groups: dict[str, Group] = {}
        self._children: dict[str, ResultRecorded] = {}
        self._parents: list[ParentJoined] = []
        self._compensations: list[Compensation] = []
        self._compensating = False

    @property
    def random(self) -> _random.Random:
        """The run's own generator."""
        if self._random is None:
            self._random = _random.Random(f"{self.stream}\x00{self.incarnation}")
        return self._random

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that is silent in replays."""
        if self._logger is None:
            self._logger = logging.LoggerAdapter(RunLogger(self), {"run": self.stream})
        return self._logger

    # -- feeding -------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Feed one event and run until everything waits. Raises NonDeterminismError when the code asks otherwise."""
        if self.finished is not None:
            self._too_late(event)
            return
        at = getattr(event, "at", None)
        if at is not None and at > self.at:
            self.at = at
        if isinstance(event, RunStarted):
            self._start(event)
        elif isinstance(event, ResultRecorded):
            self._result(event)
        elif isinstance(event, SignalReceived):
            self.unread.append(event)
            self._match_signal(event.name)
        elif isinstance(event, CancelRequested):
            if self.cancel_reason is None and not self._compensating:
                self.cancel_reason = event.reason
                self._cancel(self._root)
        elif isinstance(event, ParentJoined):
            self._parents.append(event)
        self._drive()

    def expects(self, event: Event) -> bool:
        """Whether a result still has somebody who waits for it: a branch may have been cancelled in the meantime."""
        return not isinstance(event, ResultRecorded) or event.kind == "child" or event.position in self.waiting

    def has_outcome(self, position: str) -> bool:
        """Whether the outcome of the child that was started at a position is known."""
        return position in self._children

    def take(self) -> tuple[list[Event], list[Command]]:
        """What was asked since the last call: events for this entry, and commands to carry out after it."""
        outputs, asked = self.outputs, self.asked
        self.outputs, self.asked = [], []
        return outputs, [command for command in asked if self.waiting.get(command.position) is command]

    def close(self) -> None:
        """Let go of the function where it stands. Its ``finally`` blocks run, and whatever they ask for has no
        effect.
        """
        if self.closed:
            return
        self.closed = True
        strands = list(self._strands.values())
        self._strands.clear()
        self._ready.clear()
        if not strands:
            return
        with Sealed():
            for strand in strands:
                try:
                    strand.coroutine.close()
                except BaseException as error:
                    _log.debug("%s: %r while its coroutine was closed", self.stream, error)

    @property
    def _root(self) -> Strand:
        return self._strands[""]

    def _start(self, event: RunStarted) -> None:
        arguments = self.workflow.signature.decode(event.message.args)
        if event.message.parent:
            self._parents.append(ParentJoined(event.message.parent, event.message.position, event.at, event.message.id))
        strand = Strand("", self._main(arguments), None, 0)
        self._strands[""] = strand
        self._ready.append((strand, None, None))

    def _too_late(self, event: Event) -> None:
        """The function has ended in this very entry;
        what comes with it goes to the next incarnation, if there is one.
        """
        if isinstance(self.finished, RunContinued):
            if isinstance(event, SignalReceived):
                self.finished.signals.append(event)
            elif isinstance(event, CancelRequested):
                self.finished.cancel = self.finished.cancel or event
            elif isinstance(event, ParentJoined):
                self.finished.parents.append(event)
        elif isinstance(self.finished, RunFinished) and isinstance(event, ParentJoined):
            self.finished.outgoing.append(finished_outcome(self.stream, event, self.finished))

    def _result(self, event: ResultRecorded) -> None:
        if event.kind == "child":
            self._children[event.position] = event
            for command in list(self.waiting.values()):
                if isinstance(command, ChildResult) and command.of == event.position:
                    self._resolve(command, event)
            return
        asked = self.waiting.get(event.position)
        if asked is None:
            self._differs(event.position, f"{event.kind} {event.name!r}", "nothing there")
        self._outcome(event, asked)

    def _outcome(self, event: ResultRecorded, command: Command) -> None:
        expected = "timeout" if isinstance(command, WaitSignal) else command.kind
        if (event.kind, event.name) != (expected, command.name):
            self._differs(event.position, f"{event.kind} {event.name!r}", f"{expected} {command.name!r}")
        if isinstance(command, Step):
            self.steps_done += 1
            if event.error is not None and not event.unknown:
                self._compensations = [c for c in self._compensations if c.position != event.position]
        self._resolve(command, event)

    def _differs(self, position: str, recorded: str, asked: str) -> NoReturn:
        raise NonDeterminismError(
            f"{self.stream}: at position {position} the journal has {recorded}, the code asks {asked}. The run is "
            f"stopped, "
            "its journal is untouched; deploy the code that wrote it, or guard the change with ctx.version",
            stream=self.stream,
            position=position,
            recorded=recorded,
            asked=asked,
        )

    def _resolve(self, command: Command, event: ResultRecorded) -> None:
        strand = self._waiter(command)
        if event.error is not None:
            error: BaseException = error_from(event.error)
            if (
                isinstance(command, ChildResult)
                and strand.cancel == "wanted"
                and isinstance(error, WorkflowCancelledError)
            ):
                strand.cancel = "delivered"
                error = asyncio.CancelledError(self.cancel_reason or "")
            self._ready.append((strand, None, error))
        elif event.kind == "timeout":
            self._ready.append((strand, None, TimeoutError(f"no signal {command.name!r} came in time")))
        elif event.value is None:
            self._ready.append((strand, None, None))
        else:
            self._ready.append((strand, command.decode(event.value), None))

    def _waiter(self, command: Command) -> Strand:
        del self.waiting[command.position]
        strand: Strand = command.strand
        strand.waiting = None
        return strand

    def _match_signal(self, name: str) -> None:
        for command in list(self.waiting.values()):
            if isinstance(command, WaitSignal) and command.name == name:
                value = self._take_signal(command)
                if value is not _NOTHING:
                    self._ready.append((self._waiter(command), value, None))
                return

    def _take_signal(self, command: WaitSignal) -> Any:
        """The oldest unread signal of the name that fits the type. One that does not fit is dropped, with a warning."""
        for signal in [s for s in self.unread if s.name == command.name]:
            self.unread.remove(signal)
            try:
                return command.decode(signal.value)
            except Exception as error:
                self.logger.warning("signal %r dropped: it does not fit its type: %s", signal.name, error)
        return _NOTHING

    # -- driving -------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        if not self._ready:
            return
        with Sealed():
            while self._ready and self.finished is None:
                self._advance(*self._ready.popleft())
                if self._refusal is not None:
                    raise self._refusal

    def _advance(self, strand: Strand, value: Any, error: BaseException | None) -> None:
        self._current = strand
        try:
            asked = strand.coroutine.send(value) if error is None else strand.coroutine.throw(error)
        except StopIteration as stop:
            self._ended(strand, stop.value, None)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            self._ended(strand, None, failure)
        else:
            if isinstance(asked, Command):
                self._ask(strand, asked)
            else:
                what = "awaiting asyncio's own (sleep, futures, tasks): use ctx.sleep, ctx.gather or ctx.step"
                self._ready.append((strand, None, refused(what)))
        finally:
            self._current = None

    def _ask(self, strand: Strand, command: Command) -> None:
        if command.position:
            self._ready.append(
                (strand, None, RuntimeError(f"{command.kind} {command.name} was awaited already; make it again"))
            )
            return
        position = f"{strand.path}{strand.count}"
        strand.count += 1
        command.position, command.strand = position, strand
        if strand.cancel == "wanted":
            if not isinstance(command, ChildResult):
                if isinstance(command, Gather):
                    dispose(command.branches)
                self._deliver_cancel(strand)
                return
            if command.of not in self._children:
                self._cancel_child(strand, command)
        if isinstance(command, Gather):
            self._fork(strand, command)
            return
        if isinstance(command, StartChild):
            self.start_message(command)
            self._ready.append((strand, position, None))
            return
        if isinstance(command, WaitSignal):
            value = self._take_signal(command)
            if value is not _NOTHING:
                self._ready.append((strand, value, None))
                return
            command.due = None if command.timeout is None else self.at + command.timeout
        elif isinstance(command, ChildResult) and command.of in self._children:
            strand.waiting = command
            self.waiting[position] = command
            self._resolve(command, self._children[command.of])
            return
        elif isinstance(command, Sleep):
            command.due = self.at + command.seconds
        elif isinstance(command, Step) and command.undo is not None:
            self._compensations.append(Compensation(command.undo, command.args, command.kwargs, position))
            self.outputs.append(StepBegan(position, command.name))
        elif isinstance(command, Call):
            self.address(command.message, position)
        strand.waiting = command
        self.waiting[position] = command
        self.asked.append(command)

    def _fork(self, strand: Strand, command: Gather) -> None:
        if not command.branches:
            self._ready.append((strand, [], None))
            return
        group = Group(strand, command)
        strand.waiting = command
        self._groups[command.position] = group
        for index, branch in enumerate(command.branches):
            path = f"{command.position}.{index}/"
            child = Strand(path, as_coroutine(branch), group, index)
            group.strands.append(child)
            self._strands[path] = child
            self._ready.append((child, None, None))

    def _ended(self, strand: Strand, value: Any, failure: BaseException | None) -> None:
        if strand.group is None:
            self._main_ended(value, failure)
            return
        del self._strands[strand.path]
        group = strand.group
        if isinstance(failure, ContinueAsNew):
            failure = RuntimeError("ctx.continue_as_new inside ctx.gather: call it from the workflow itself")
        if failure is None:
            group.results[strand.index] = value
        elif group.command.return_exceptions and isinstance(failure, Exception):
            group.results[strand.index] = failure
        elif group.failure is None:
            group.failure = failure
            for other in group.strands:
                if other is not strand:
                    self._cancel(other)
        group.remaining -= 1
        if group.remaining == 0:
            owner = group.owner
            del self._groups[group.command.position]
            owner.waiting = None
            if owner.cancel == "wanted" and isinstance(group.failure, asyncio.CancelledError):
                owner.cancel = "delivered"
            self._ready.append((owner, group.results, group.failure))

    def _cancel(self, strand: Strand) -> None:
        """Want the strand to stop: now where it sleeps or waits for a signal, else before it begins something new."""
        if strand.cancel:
            return
        if self._strands.get(strand.path) is not strand:
            return
        strand.cancel = "wanted"
        command = strand.waiting
        if isinstance(command, Gather):
            for branch in self._groups[command.position].strands:
                self._cancel(branch)
        elif isinstance(command, ChildResult):
            self._cancel_child(strand, command)
        elif command is not None and command.interruptible:
            del self.waiting[command.position]
            strand.waiting = None
            self._deliver_cancel(strand)

    def _deliver_cancel(self, strand: Strand) -> None:
        strand.cancel = "delivered"
        self._ready.append((strand, None, asyncio.CancelledError(self.cancel_reason or "")))

    def _cancel_child(self, strand: Strand, command: ChildResult) -> None:
        if not command.cancel_sent:
            command.cancel_sent = True
            reason = encode(self.cancel_reason or "the parent was cancelled")
            self.emit(strand, Kind.CANCEL, command.name, "", reason)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _main(self, arguments: dict[str, Any]) -> bytes:
        try:
            value = await self.workflow.function(Context(self), **arguments)
            data = self.workflow.signature.encode_result(value)
            if len(data) > self._max_bytes:
                raise TooLargeError(
                    f"{self.stream}: its result ({len(data)} bytes) exceeds max_message_bytes ({self._max_bytes}); "
                    "keep large values in a BlobStore and return a reference", stream=self.stream,
                )  # fmt: skip
            return data
        except (ContinueAsNew, GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            if self._compensations and not self.closed and self._refusal is None and not self._refuses(failure):
                await self._compensate(failure)
            raise

    def _refuses(self, failure: BaseException) -> bool:
        """Code that breaks the rules in a replay is newer code: the run waits for better code and is not failed."""
        return self.replaying and bool(getattr(failure, "refused", False))

    async def _compensate(self, failure: BaseException) -> None:
        root, self._compensating = self._root, True
        root.path, root.count, root.cancel = "~", 0, "delivered"
        while self._compensations:
            compensation = self._compensations.pop()
            function = compensation.function
            try:
                if isinstance(function, ActorMethod):
                    await self.call_actor(
                        function, function.handler.signature.encode(compensation.args, compensation.kwargs)
                    )
                else:
                    name = str(getattr(function, "__qualname__", type(function).__qualname__))
                    await self.step(
                        function, compensation.args, compensation.kwargs, _COMPENSATION_RETRIES, None, None, name
                    )
            except Exception as error:
                failure.add_note(f"compensation {function!r} failed too: {error!r}")
                self.logger.error("compensation %r failed: %r", function, error)

    def _main_ended(self, value: Any, failure: BaseException | None) -> None:
        if failure is None:
            self._finish("completed", value=value)
        elif isinstance(failure, ContinueAsNew):
            cancel = None
            if self._root.cancel == "wanted":
                cancel = CancelRequested(self.cancel_reason or "", self.at, "")
            self.finished = RunContinued(
                failure.arguments, self.at, self.incarnation + 1, list(self.unread), dict(self.published),
                list(self._parents), cancel,
            )  # fmt: skip
            self.outputs.append(self.finished)
        elif isinstance(failure, NonDeterminismError) and self._refuses(failure):
            self._refusal = failure
        elif isinstance(failure, asyncio.CancelledError) and self.cancel_reason is not None:
            self._finish("cancelled", error=failure)
        else:
            self._finish("failed", error=failure)
        self._strands.clear()

    def _finish(self, status: str, *, value: bytes | None = None, error: BaseException | None = None) -> None:
        info = None if error is None else error_info(error)
        self.finished = finished = RunFinished(status, self.at, value, info, self.published)
        finished.outgoing = [finished_outcome(self.stream, parent, finished) for parent in self._parents]
        self.outputs.append(finished)


_NOTHING: Any = object()
