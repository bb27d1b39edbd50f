"""What a workflow's context asks of its execution: commands to be awaited, messages to be sent, marks to be made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from ..codec import encode
from ..errors import NonDeterminismError
from ..references import ActorMethod, keyed_request
from ..workflow import Workflow
from .commands import Call, ChildResult, Command, Gather, Sleep, StartChild, Step, WaitSignal
from .entries import ChildStarted, Event, Sent, VersionMarked
from .messages import Kind, Message, actor_stream, derived_id, run_stream
from .steps import StepRunner
from .strands import Compensation, Strand, dispose

__all__ = ["MAX_BRANCHES", "Asking", "ContinueAsNew"]

MAX_BRANCHES = 1000


class ContinueAsNew(BaseException):
    """Leaves the function for its next incarnation."""

    def __init__(self, arguments: bytes) -> None:
        self.arguments = arguments


class Asking:
    """The side of an execution that its context sees."""

    __slots__ = (
        "_compensations", "_current", "_life", "_refusal", "_retries", "_steps", "_versions", "at", "closed",
        "incarnation", "outputs", "published", "replaying", "stream", "workflow",
    )  # fmt: skip

    at: float
    closed: bool
    incarnation: int
    outputs: list[Event]
    published: dict[str, bytes]
    replaying: bool
    stream: str
    workflow: Workflow[Any, Any]
    _compensations: list[Compensation]
    _current: Strand | None
    _life: float
    _refusal: NonDeterminismError | None
    _retries: dict[str, int]
    _steps: StepRunner
    _versions: dict[str, int]

    def _check_open(self) -> None:
        """A run that leaves memory runs its ``finally`` blocks: they get no further than their first wish."""
        if self.closed:
            raise GeneratorExit

    def step(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], retries: int,
        timeout: float | None, undo: Callable[..., Any] | None, name: str,
    ) -> Command:  # fmt: skip
        """A step, to be awaited."""
        self._check_open()
        decode_result = self._steps.decode_result
        return Step(name, function, args, kwargs, retries, timeout, undo, lambda data: decode_result(function, data))

    def call_actor(self, method: ActorMethod, args: bytes) -> Command:
        """A call of an actor, to be awaited."""
        self._check_open()
        stream = actor_stream(method.actor_type, method.key)
        message = Message(id="", kind=Kind.CALL, stream=stream, method=method.handler.name, args=args)
        if method.idempotency_key is not None:
            message.id, message.fingerprint = keyed_request(method.handler.name, method.idempotency_key, args)
        return Call(f"{stream}.{method.handler.name}", message, method.handler.signature.decode_result)

    def address(self, message: Message, position: str) -> None:
        """Everything that makes the call the same call in every replay."""
        message.id = message.id or self._request_id(position)
        message.sent_at = self.at
        message.expires_at = self.at + self._life
        message.chain = ()

    def _request_id(self, position: str) -> str:
        retries = self._retries.get(position)
        return derived_id(self.stream, str(self.incarnation), position, *([str(retries)] if retries else []))

    def send(self, method: ActorMethod, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send to an actor with this entry."""
        encoded = method.handler.signature.encode(args, kwargs)
        self.emit(self._here, Kind.SEND, actor_stream(method.actor_type, method.key), method.handler.name, encoded)

    def send_to_run(self, workflow: str, run_id: str, what: str, args: bytes) -> None:
        """Signal or cancel another run with this entry."""
        kind, _, name = what.partition(":")
        self.emit(
            self._here, Kind.SIGNAL if kind == "signal" else Kind.CANCEL, run_stream(workflow, run_id), name, args
        )

    @property
    def _here(self) -> Strand:
        self._check_open()
        if self._current is None:
            raise RuntimeError(f"{self.stream}: ctx was used outside the workflow's own code")
        return self._current

    def emit(self, strand: Strand, kind: Kind, stream: str, method: str, args: bytes) -> None:
        """Send a message with this entry, as the strand's next position."""
        position = f"{strand.path}{strand.count}"
        strand.count += 1
        message = Message(id=self._request_id(position), kind=kind, stream=stream, method=method, args=args,
                          sent_at=self.at, expires_at=self.at + self._life)  # fmt: skip
        self.outputs.append(Sent(position, message))

    def sleep(self, seconds: float) -> Command:
        """A sleep, to be awaited."""
        self._check_open()
        if not seconds >= 0:
            raise ValueError(f"ctx.sleep({seconds!r}): give zero or more seconds")
        return Sleep(seconds)

    def wait_signal(self, name: str, kind: Any, timeout: float | None) -> Command:
        """A wait for a signal, to be awaited."""
        self._check_open()
        return WaitSignal(name, kind, timeout)

    def start_child(self, workflow: Workflow[Any, Any], run_id: str, args: bytes) -> Command:
        """The start of a child, to be awaited."""
        self._check_open()
        return StartChild(run_stream(workflow.name, run_id), args)

    def start_message(self, command: StartChild) -> Message:
        """The request to start a child. It never expires:
        the child starts once however late, and somebody waits for it.
        """
        position = f"{self.incarnation}:{command.position}"
        retries = self._retries.get(command.position, 0)
        message = Message(
            id=derived_id("start", command.stream, self.stream, position, str(retries)), kind=Kind.START,
            stream=command.stream, args=command.args, sent_at=self.at, parent=self.stream, position=position,
        )  # fmt: skip
        self.outputs.append(ChildStarted(command.position, message))
        return message

    def child_result(self, workflow: Workflow[Any, Any], run_id: str, position: str) -> Command:
        """The outcome of a child, to be awaited."""
        self._check_open()
        return ChildResult(run_stream(workflow.name, run_id), position, workflow.signature.decode_result)

    def gather(self, branches: Sequence[Awaitable[Any]], return_exceptions: bool) -> Command:
        """Concurrent branches, to be awaited."""
        if self.closed:
            dispose(branches)
            raise GeneratorExit
        if len(branches) > MAX_BRANCHES:
            dispose(branches)
            raise ValueError(
                f"ctx.gather of {len(branches)} branches: at most {MAX_BRANCHES} fit one run; "
                "split them over child runs (ctx.workflow) and gather those"
            )
        return Gather(branches, return_exceptions)

    def add_compensation(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Register a compensation."""
        self._check_open()
        if isinstance(function, ActorMethod):
            # A wrong call is better found here than when the run has failed.
            function.handler.signature.decode(function.handler.signature.encode(args, kwargs))
        self._compensations.append(Compensation(function, args, kwargs))

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """Leave the function for its next incarnation."""
        self._check_open()
        encoded = self.workflow.signature.encode(args, kwargs)
        self.workflow.signature.decode(encoded)
        raise ContinueAsNew(encoded)

    def version(self, change_id: str, latest: int) -> int:
        """The version recorded for a change, or ``latest`` when the run gets there live for the first time."""
        recorded = self._versions.get(change_id)
        if recorded is None:
            # A run keeps for good what it was given first: a loop may pass here again.
            self._versions[change_id] = recorded = 0 if self.replaying else latest
            if not self.replaying:
                self.outputs.append(VersionMarked(change_id, latest))
        elif recorded > latest:
            self._refusal = NonDeterminismError(
                f"{self.stream}: version {recorded} of {change_id!r} is recorded, this code knows {latest}. The run is "
                "stopped, its journal is untouched; deploy the newer code",
                stream=self.stream, recorded=recorded, asked=latest,
            )  # fmt: skip
            raise self._refusal
        return recorded

    def publish(self, name: str, value: Any) -> None:
        """Set a published value."""
        self._check_open()
        self.published[name] = encode(value)
