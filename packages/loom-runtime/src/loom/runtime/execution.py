"""The execution of a workflow function: deterministic, without I/O, driven by the events of its journal.

``apply(event)`` feeds one recorded event and runs the function until it waits again. What the function asks meanwhile
is collected: ``outputs`` are events that belong into the same entry, ``asked`` are commands to carry out once that entry
is durable. A replay feeds the same events and must ask the same; live and replay take the same path.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NoReturn

from ..codec import decode, encode, error_from, error_info
from ..context import Context
from ..errors import NonDeterminismError, StepFailedError, WorkflowCancelledError
from ..references import ActorMethod, keyed_request
from ..resources import Resources
from ..workflow import Workflow
from .commands import Call, ChildResult, Command, Gather, Sleep, StartChild, Step, WaitSignal
from .determinism import forbidden, sealed
from .entries import (
    CancelRequested,
    ChildStarted,
    Event,
    ResultRecorded,
    RunContinued,
    RunFinished,
    RunStarted,
    Sent,
    SignalReceived,
    StepBegan,
    VersionMarked,
)
from .messages import Kind, Message, actor_stream, derived_id, run_stream
from .steps import StepRunner

__all__ = ["Execution", "MAX_BRANCHES"]

MAX_BRANCHES = 1000
_COMPENSATION_RETRIES = 5
_log = logging.getLogger("loom.workflow")


class _ContinueAsNew(BaseException):
    def __init__(self, args: bytes) -> None:
        self.arguments = args


class _Strand:
    """One line of the function's control flow: the function itself, or a branch of a gather."""

    __slots__ = ("cancel", "count", "coroutine", "group", "index", "path", "waiting")

    def __init__(self, path: str, coroutine: Coroutine[Any, Any, Any], group: _Group | None, index: int) -> None:
        self.path = path
        self.coroutine = coroutine
        self.group = group
        self.index = index
        self.count = 0
        self.waiting: Command | None = None
        self.cancel = ""  # "", "wanted", "delivered"


class _Group:
    """The branches of one gather."""

    __slots__ = ("command", "failure", "owner", "remaining", "results", "strands")

    def __init__(self, owner: _Strand, command: Gather) -> None:
        self.owner = owner
        self.command = command
        self.strands: list[_Strand] = []
        self.results: list[Any] = [None] * len(command.branches)
        self.remaining = len(command.branches)
        self.failure: BaseException | None = None


class _Compensation:
    __slots__ = ("args", "function", "kwargs", "position")

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], position: str = "") -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.position = position


class Execution:
    """One incarnation of a run in memory."""

    def __init__(
        self, stream: str, run_id: str, workflow: Workflow[Any, Any], steps: StepRunner, resources: Resources,
        message_life: float, incarnation: int = 0, versions: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.stream = stream
        self.run_id = run_id
        self.workflow = workflow
        self.resources = resources
        self.incarnation = incarnation
        self.at = 0.0
        self.random = _random.Random(f"{stream}\x00{incarnation}")
        self.replaying = False
        self.published: dict[str, bytes] = {}
        self.outputs: list[Event] = []
        self.asked: list[Command] = []
        self.waiting: dict[str, Command] = {}
        self.unread: list[SignalReceived] = []
        self.finished: RunFinished | RunContinued | None = None
        self.cancel_reason: str | None = None
        self.steps_done = 0
        self.logger = logging.LoggerAdapter(_RunLogger(self), {"run": stream})
        self._steps = steps
        self._life = message_life
        self._versions = versions or {}
        self._strands: dict[str, _Strand] = {}
        self._ready: deque[tuple[_Strand, Any, BaseException | None]] = deque()
        self._current: _Strand | None = None
        self._groups: dict[str, _Group] = {}
        self._children: dict[str, ResultRecorded] = {}
        self._compensations: list[_Compensation] = []
        self._compensating = False
        self._started: RunStarted | None = None

    # -- feeding -------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Feed one event and run until everything waits. Raises NonDeterminismError when the code asks otherwise."""
        if self.finished is not None:
            return
        at = getattr(event, "at", None)
        if at is not None:
            self.at = max(self.at, at)
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
        self._drive()

    def take(self) -> tuple[list[Event], list[Command]]:
        """What was asked since the last call: events for this entry, and commands to carry out after it."""
        outputs, asked = self.outputs, self.asked
        self.outputs, self.asked = [], []
        return outputs, [command for command in asked if self.waiting.get(command.position) is command]

    def finish_failed(self, error: Exception) -> None:
        """End the run with an error that did not come from its code."""
        self._finish("failed", error=error)

    @property
    def _root(self) -> _Strand:
        return self._strands[""]

    def _start(self, event: RunStarted) -> None:
        self._started = event
        arguments = self.workflow.signature.decode(event.message.args)
        strand = _Strand("", self._main(arguments), None, 0)
        self._strands[""] = strand
        self._ready.append((strand, None, None))

    def _result(self, event: ResultRecorded) -> None:
        if event.kind == "child":
            self._children[event.position] = event
            for command in list(self.waiting.values()):
                if isinstance(command, ChildResult) and command.of == event.position:
                    self._resolve(command, event)
            return
        command = self.waiting.get(event.position)
        if command is None:
            self._differs(event.position, f"{event.kind} {event.name!r}", "nothing there")
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
            f"{self.stream}: at position {position} the journal has {recorded}, the code asks {asked}. The run is stopped, "
            "its journal is untouched; deploy the code that wrote it, or guard the change with ctx.version",
            stream=self.stream,
            position=position,
            recorded=recorded,
            asked=asked,
        )

    def _resolve(self, command: Command, event: ResultRecorded) -> None:
        strand = self._waiter(command)
        if event.error is not None:
            self._ready.append((strand, None, error_from(event.error)))
        elif event.kind == "timeout":
            self._ready.append((strand, None, TimeoutError(f"no signal {command.name!r} came in time")))
        elif event.value is None:
            self._ready.append((strand, None, None))
        else:
            self._ready.append((strand, command.decode(event.value), None))

    def _waiter(self, command: Command) -> _Strand:
        del self.waiting[command.position]
        strand: _Strand = command.strand
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
        with sealed():
            while self._ready and self.finished is None:
                self._advance(*self._ready.popleft())

    def _advance(self, strand: _Strand, value: Any, error: BaseException | None) -> None:
        self._current = strand
        try:
            asked = strand.coroutine.send(value) if error is None else strand.coroutine.throw(error)
        except StopIteration as stop:
            self._ended(strand, stop.value, None)
        except BaseException as failure:
            self._ended(strand, None, failure)
        else:
            if isinstance(asked, Command):
                self._ask(strand, asked)
            else:
                try:
                    forbidden("awaiting asyncio's own (sleep, futures, tasks): use ctx.sleep, ctx.gather or ctx.step")
                except NonDeterminismError as refusal:
                    self._ready.append((strand, None, refusal))
        finally:
            self._current = None

    def _ask(self, strand: _Strand, command: Command) -> None:
        position = f"{strand.path}{strand.count}"
        strand.count += 1
        command.position, command.strand = position, strand
        if strand.cancel == "wanted" and not isinstance(command, ChildResult):
            strand.cancel = "delivered"
            self._ready.append((strand, None, asyncio.CancelledError(self.cancel_reason or "")))
            return
        if isinstance(command, Gather):
            self._fork(strand, command)
            return
        if isinstance(command, StartChild):
            self._start_child(strand, command)
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
            self._compensations.append(_Compensation(command.undo, command.args, command.kwargs, position))
            self.outputs.append(StepBegan(position, command.name))
        elif isinstance(command, Call):
            self._address(command.message, position)
        strand.waiting = command
        self.waiting[position] = command
        self.asked.append(command)

    def _fork(self, strand: _Strand, command: Gather) -> None:
        if not command.branches:
            self._ready.append((strand, [], None))
            return
        group = _Group(strand, command)
        strand.waiting = command
        self._groups[command.position] = group
        for index, branch in enumerate(command.branches):
            path = f"{command.position}.{index}/"
            child = _Strand(path, _as_coroutine(branch), group, index)
            group.strands.append(child)
            self._strands[path] = child
            self._ready.append((child, None, None))

    def _ended(self, strand: _Strand, value: Any, failure: BaseException | None) -> None:
        if strand.group is None:
            self._main_ended(value, failure)
            return
        del self._strands[strand.path]
        group = strand.group
        if isinstance(failure, _ContinueAsNew):
            failure = NonDeterminismError("ctx.continue_as_new inside ctx.gather: call it from the workflow itself")
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
            del self._groups[group.command.position]
            group.owner.waiting = None
            self._ready.append((group.owner, group.results, group.failure))

    def _cancel(self, strand: _Strand) -> None:
        """Want the strand to stop: now where it sleeps or waits for a signal, else before it begins something new."""
        if strand.cancel:
            return
        if self._strands.get(strand.path) is not strand:
            return
        command = strand.waiting
        if isinstance(command, Gather):
            for branch in self._groups[command.position].strands:
                self._cancel(branch)
            return
        strand.cancel = "wanted"
        if isinstance(command, ChildResult):
            if not command.cancel_sent:
                command.cancel_sent = True
                self._emit(Kind.CANCEL, command.name, "", encode(self.cancel_reason or "the parent was cancelled"))
        elif command is not None and command.interruptible:
            del self.waiting[command.position]
            strand.waiting = None
            strand.cancel = "delivered"
            self._ready.append((strand, None, asyncio.CancelledError(self.cancel_reason or "")))

    # -- the end -------------------------------------------------------------------------------------------------

    async def _main(self, arguments: dict[str, Any]) -> Any:
        try:
            return await self.workflow.function(Context(self), **arguments)
        except (_ContinueAsNew, GeneratorExit):
            raise
        except BaseException as failure:
            if self._compensations:
                await self._compensate(failure)
            raise

    async def _compensate(self, failure: BaseException) -> None:
        root, self._compensating = self._root, True
        root.path, root.count, root.cancel = "~", 0, "delivered"
        while self._compensations:
            compensation = self._compensations.pop()
            function = compensation.function
            try:
                if isinstance(function, ActorMethod):
                    await self.call_actor(function, function.handler.signature.encode(compensation.args, compensation.kwargs))
                else:
                    name = str(getattr(function, "__qualname__", type(function).__qualname__))
                    await self.step(function, compensation.args, compensation.kwargs, _COMPENSATION_RETRIES, None, None, name)
            except Exception as error:
                failure.add_note(f"compensation {function!r} failed too: {error!r}")
                self.logger.error("compensation %r failed: %r", function, error)

    def _main_ended(self, value: Any, failure: BaseException | None) -> None:
        if failure is None:
            try:
                self._finish("completed", value=self.workflow.signature.encode_result(value))
            except Exception as error:
                self._finish("failed", error=error)
        elif isinstance(failure, _ContinueAsNew):
            self.finished = RunContinued(failure.arguments, self.at, self.incarnation + 1, list(self.unread))
            self.outputs.append(self.finished)
        elif isinstance(failure, asyncio.CancelledError) and self.cancel_reason is not None:
            self._finish("cancelled", error=failure)
        else:
            self._finish("failed", error=failure)

    def _finish(self, status: str, *, value: bytes | None = None, error: BaseException | None = None) -> None:
        assert self._started is not None
        info = None
        if error is not None:
            notes = getattr(error, "__notes__", [])
            info = error_info(error)
            if notes:
                text = "; ".join([info.message, *notes])
                info = error_info(StepFailedError(text)) if not isinstance(error, Exception) else info
        self.finished = RunFinished(status, self.at, value, info, dict(self.published))
        started = self._started.message
        if started.parent:
            outcome = ResultRecorded(started.position, "child", self.stream, self.at, value, info)
            if status == "cancelled":
                outcome.error = error_info(WorkflowCancelledError(f"{self.stream} was cancelled", stream=self.stream))
            self.finished.outgoing.append(
                Message(id=derived_id("child", self.stream, str(self.incarnation)), kind=Kind.CHILD, stream=started.parent,
                        args=encode(outcome), sent_at=self.at, expires_at=self.at + self._life)
            )  # fmt: skip
        self.outputs.append(self.finished)

    # -- what the context asks -----------------------------------------------------------------------------------

    def step(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], retries: int,
        timeout: float | None, undo: Callable[..., Any] | None, name: str,
    ) -> Command:  # fmt: skip
        """A step, to be awaited."""
        decode_result = self._steps.decode_result
        return Step(name, function, args, kwargs, retries, timeout, undo, lambda data: decode_result(function, data))

    def call_actor(self, method: ActorMethod, args: bytes) -> Command:
        """A call of an actor, to be awaited."""
        stream = actor_stream(method.actor_type, method.key)
        message = Message(id="", kind=Kind.CALL, stream=stream, method=method.handler.name, args=args)
        if method.idempotency_key is not None:
            message.id, message.fingerprint = keyed_request(method.handler.name, method.idempotency_key, args)
        return Call(f"{stream}.{method.handler.name}", message, method.handler.signature.decode_result)

    def _address(self, message: Message, position: str) -> None:
        """Everything that makes the call the same call in every replay."""
        message.id = message.id or derived_id(self.stream, str(self.incarnation), position)
        message.sent_at = self.at
        message.expires_at = self.at + self._life
        message.chain = ()

    def send(self, method: ActorMethod, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send to an actor with this entry."""
        encoded = method.handler.signature.encode(args, kwargs)
        self._emit(Kind.SEND, actor_stream(method.actor_type, method.key), method.handler.name, encoded)

    def send_to_run(self, workflow: str, run_id: str, what: str, args: bytes) -> None:
        """Signal or cancel another run with this entry."""
        kind, _, name = what.partition(":")
        self._emit(Kind.SIGNAL if kind == "signal" else Kind.CANCEL, run_stream(workflow, run_id), name, args)

    def _emit(self, kind: Kind, stream: str, method: str, args: bytes) -> None:
        strand = self._current or self._root
        position = f"{strand.path}{strand.count}"
        strand.count += 1
        request = derived_id(self.stream, str(self.incarnation), position)
        message = Message(id=request, kind=kind, stream=stream, method=method, args=args, sent_at=self.at,
                          expires_at=self.at + self._life)  # fmt: skip
        self.outputs.append(Sent(position, message))

    def sleep(self, seconds: float) -> Command:
        """A sleep, to be awaited."""
        if not seconds >= 0:
            raise ValueError(f"ctx.sleep({seconds!r}): give zero or more seconds")
        return Sleep(seconds)

    def wait_signal(self, name: str, kind: Any, timeout: float | None) -> Command:
        """A wait for a signal, to be awaited."""
        return WaitSignal(name, kind, timeout)

    def start_child(self, workflow: Workflow[Any, Any], run_id: str, args: bytes) -> Command:
        """The start of a child, to be awaited."""
        return StartChild(run_stream(workflow.name, run_id), args)

    def _start_child(self, strand: _Strand, command: StartChild) -> None:
        message = Message(
            id=derived_id("start", command.stream), kind=Kind.START, stream=command.stream, args=command.args,
            sent_at=self.at, expires_at=self.at + self._life, parent=self.stream, position=command.position,
        )  # fmt: skip
        self.outputs.append(ChildStarted(command.position, message))
        self._ready.append((strand, command.position, None))

    def child_result(self, workflow: Workflow[Any, Any], run_id: str, position: str) -> Command:
        """The outcome of a child, to be awaited."""
        return ChildResult(run_stream(workflow.name, run_id), position, workflow.signature.decode_result)

    def gather(self, branches: Sequence[Awaitable[Any]], return_exceptions: bool) -> Command:
        """Concurrent branches, to be awaited."""
        if len(branches) > MAX_BRANCHES:
            raise ValueError(
                f"ctx.gather of {len(branches)} branches: at most {MAX_BRANCHES} fit one run; "
                "split them over child runs (ctx.workflow) and gather those"
            )
        return Gather(branches, return_exceptions)

    def add_compensation(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Register a compensation."""
        if isinstance(function, ActorMethod):
            function.handler.signature.encode(args, kwargs)  # a wrong call is better found here than in the failure
        self._compensations.append(_Compensation(function, args, kwargs))

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """Leave the function for its next incarnation."""
        raise _ContinueAsNew(self.workflow.signature.encode(args, kwargs))

    def version(self, change_id: str, latest: int) -> int:
        """The version recorded for a change, or ``latest`` when the run gets there live for the first time."""
        recorded = self._versions.get(change_id)
        if recorded is None:
            if self.replaying:
                return 0
            self._versions[change_id] = recorded = latest
            self.outputs.append(VersionMarked(change_id, latest))
        elif recorded > latest:
            raise NonDeterminismError(
                f"{self.stream}: version {recorded} of {change_id!r} is recorded, this code knows {latest}; "
                "deploy the newer code", stream=self.stream,
            )  # fmt: skip
        elif self.replaying:
            self.outputs.append(VersionMarked(change_id, recorded))
        return recorded

    def publish(self, name: str, value: Any) -> None:
        """Set a published value."""
        self.published[name] = encode(value)


_NOTHING: Any = object()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    return awaitable if isinstance(awaitable, Coroutine) else _await(awaitable)


class _RunLogger(logging.Logger):
    """The workflow logger, silent while its run replays."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(_log.name)
        self.parent = _log
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:
        """Whether the run is live and the workflow logger takes the level."""
        return not self._execution.replaying and _log.isEnabledFor(level)


def decode_child(data: bytes) -> ResultRecorded:
    """The outcome of a child as its message carries it."""
    found: ResultRecorded = decode(data, ResultRecorded)
    return found
