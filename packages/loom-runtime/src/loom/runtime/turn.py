"""One invocation of a handler: its copy of the state, its effects, its deadline."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..actor import Handler
from ..codec import error_from
from ..context import TurnContext
from ..errors import (
    CallCycleError,
    InvalidArgumentsError,
    LoomError,
    ReadOnlyViolationError,
    TooLargeError,
    TurnClosedError,
    TurnDeadlineError,
)
from ..interceptors import CallInfo, nest
from ..references import ActorMethod, keyed_request
from .effects import Effects
from .entries import TurnStep
from .messages import Kind, Message, actor_stream, derived_id

if TYPE_CHECKING:
    from .actor_cell import ActorCell
    from .job import Job

__all__ = ["Turn", "check_size", "current_turn"]

current_turn: contextvars.ContextVar[Turn | None] = contextvars.ContextVar("loom_turn", default=None)


class Turn:
    """What ``self`` stands on while a handler runs."""

    __slots__ = (
        "_count", "_ctx", "_lock", "abandoned", "began", "calls", "cell", "closed", "deadline", "effects", "ended",
        "handler", "job", "key", "memo", "message", "recording", "state", "tasks", "timed_out", "waiting_for", "where",
    )  # fmt: skip

    def __init__(
        self, cell: ActorCell, message: Message, handler: Handler | None, state: Any, deadline: float,
        job: Job | None = None,
    ) -> None:  # fmt: skip
        self.cell = cell
        self.message = message
        self.handler = handler
        self.state = state
        self.job = job
        self.key = cell.key
        self.where = cell.stream if handler is None else f"{cell.stream}.{handler.name}"
        self.deadline = deadline  # monotonic
        self.closed = False
        self.timed_out = False
        self.abandoned = False
        self.ended = False
        self.began = False
        self.effects = Effects()
        self.memo: dict[str, TurnStep] = {}
        self.calls: list[TurnStep] | None = None
        self.recording: set[asyncio.Task[Exception | None]] | None = None
        self.tasks: set[asyncio.Task[Any]] | None = None
        self.waiting_for = ""
        self._ctx: TurnContext | None = None
        self._count = 0
        self._lock: asyncio.Lock | None = None

    @property
    def lock(self) -> asyncio.Lock:
        """Held while something is appended inside the turn: steps may run side by side, the journal is one line."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    async def recorded(self) -> None:
        """Wait for appends inside the turn that are still under way, so that the head is known."""
        while self.recording:
            await asyncio.wait(self.recording)

    @property
    def ctx(self) -> TurnContext:
        """The context, made when a handler asks for it."""
        if self._ctx is None:
            self._ctx = TurnContext(self)
        return self._ctx

    def check_open(self) -> None:
        """Raise TurnClosedError when the handler has returned already."""
        if self.closed:
            raise TurnClosedError(f"{self.where}: the turn has ended", where=self.where)

    def check_writable(self, what: str) -> None:
        """Raise unless this turn may have effects."""
        self.check_open()
        if self.handler is None or self.handler.read_only:
            name = self.where if self.handler else f"{self.where}.on_activate"
            raise ReadOnlyViolationError(f"{name} may not {what}: it is read-only", where=name)

    def next_position(self) -> str:
        """The position of the next call or step of this turn; the same whenever the turn is run again."""
        self._count += 1
        return str(self._count - 1)

    def remaining(self) -> float:
        """Seconds until the turn's deadline."""
        return self.deadline - self.cell.host.clock.monotonic()

    async def call_actor(self, method: ActorMethod, args: bytes) -> Any:
        """Call another actor and wait; the call ends with the turn's deadline at the latest.

        The other actor remembers its answer, so that a turn which runs again has its calls answered and not repeated.
        Once steps are recorded, so are the answers.
        """
        self.check_open()
        host = self.cell.host
        stream = actor_stream(method.actor_type, method.key)
        chain = (*self.message.chain, self.cell.stream)
        if stream in chain:
            path = " -> ".join((*chain, stream))
            raise CallCycleError(
                f"{self.where} calls {stream}.{method.handler.name}, which waits for this very call: {path}. "
                "Use ctx.send, or let a workflow make the calls",
                chain=[*chain, stream],
            )
        check_size(f"the arguments of {stream}.{method.handler.name}", args, host.options.max_message_bytes)
        position, name = self.next_position(), f"call {stream}.{method.handler.name}"
        answer = self._recall(position, name)
        if answer is None:
            message = self._call_message(method, stream, position, args, chain)
            if host.interceptors:
                info = CallInfo(stream=stream, method=message.method, request_id=message.id)

                async def proceed() -> Any:
                    return _result_of(method, await self._ask(message, position, name))

                return await nest(host.interceptors, "call", info, proceed)()
            answer = await self._ask(message, position, name)
        return _result_of(method, answer)

    def _call_message(
        self, method: ActorMethod, stream: str, position: str, args: bytes, chain: tuple[str, ...]
    ) -> Message:
        options, now = self.cell.host.options, self.cell.host.clock.now()
        request, fingerprint = derived_id(self.cell.stream, self.message.id, position), b""
        expires_at = max(self.message.expires_at, now + options.call_timeout)
        if method.idempotency_key is not None:
            request, fingerprint = keyed_request(method.handler.name, method.idempotency_key, args)
            expires_at = max(expires_at, now + options.idempotency_window)
        return Message(
            id=request, kind=Kind.CALL, stream=stream, method=method.handler.name, args=args, sent_at=now,
            expires_at=expires_at, deadline=now + max(0.0, self.remaining()), fingerprint=fingerprint, chain=chain,
            memory=now + options.idempotency_window if self.began else 0.0,
        )  # fmt: skip

    async def _ask(self, message: Message, position: str, name: str) -> TurnStep:
        host = self.cell.host
        self.waiting_for = f"{message.stream}.{message.method}"
        try:
            reply = await host.router.call(message, timeout=max(0.0, self.remaining()) + 1.0)
        except Exception:
            self.waiting_for = ""
            raise
        self.waiting_for = ""
        self.check_open()
        answer = TurnStep(position, name, host.clock.now(), reply.result, reply.error)
        if self.handler is not None and not self.handler.read_only:
            if self.began:
                await self.cell.record(self, answer)
            else:
                self.calls = [*(self.calls or ()), answer]
        return answer

    def _recall(self, position: str, name: str) -> TurnStep | None:
        recorded = self.memo.get(position)
        if recorded is not None and recorded.name != name:
            raise InvalidArgumentsError(
                f"{self.where}: {position} was recorded as {recorded.name!r} and the code now asks {name!r}; a turn "
                "that is resumed must ask the same in the same order"
            )
        return recorded

    def send(self, kind: Kind, stream: str, method: str, args: bytes, *, delay: float = 0.0, request: str = "") -> None:
        """Send a message with the commit of this turn."""
        self.check_writable("send")
        options, now = self.cell.host.options, self.cell.host.clock.now()
        check_size(f"the arguments of {stream}{'.' * bool(method)}{method}", args, options.max_message_bytes)
        self.effects.outgoing.append(
            Message(
                id=request, kind=kind, stream=stream, method=method, args=args, sent_at=now + delay,
                expires_at=now + delay + options.message_life,
            )
        )  # fmt: skip

    async def run_step(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], retries: int,
        timeout: float | None, name: str,
    ) -> Any:  # fmt: skip
        """Run a step whose result is recorded in the actor's journal before it is returned."""
        self.check_writable("run a step")
        position = self.next_position()
        recorded = self._recall(position, name)
        if recorded is None:
            recorded = await self.cell.record_step(self, position, function, args, kwargs, retries, timeout, name)
        if recorded.error is not None:
            raise error_from(recorded.error)
        return self.cell.host.steps.decode_result(function, recorded.value or b"\xc0")

    def deadline_error(self) -> LoomError:
        """What the caller hears when the turn took too long, with both waiters named where they wait for each other."""
        text = f"{self.where} did not end within its deadline; nothing was committed"
        context: dict[str, Any] = {"where": self.where}
        if self.waiting_for:
            text += f". It was waiting for {self.waiting_for}"
            context["waiting_for"] = self.waiting_for
            other = self.cell.host.cells.get(self.waiting_for.rpartition(".")[0])
            rival = getattr(other, "turn", None)
            if rival is not None and rival.waiting_for.rpartition(".")[0] == self.cell.stream:
                text += f", while {rival.where} was waiting for {rival.waiting_for}: each waits for the other"
                context["waited_for_by"] = rival.where
        return TurnDeadlineError(text, **context)


def check_size(what: str, args: bytes, limit: int) -> None:
    """Refuse what no queue should have to carry. Raises TooLargeError."""
    if len(args) > limit:
        raise TooLargeError(
            f"{what} are {len(args)} bytes, more than max_message_bytes ({limit}); keep large values in a BlobStore "
            "and pass references"
        )


def _result_of(method: ActorMethod, answer: TurnStep) -> Any:
    if answer.error is not None:
        raise error_from(answer.error)
    return method.handler.signature.decode_result(answer.value or b"\xc0")


def leftover(turn: Turn) -> list[asyncio.Task[Any]]:
    """Tasks that the handler started and that still run."""
    return [task for task in turn.tasks or () if not task.done()]


def tracking_task_factory(previous: Callable[..., Any] | None) -> Callable[..., Any]:
    """A task factory that notes which turn started a task, on top of the one that was installed before."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        context = kwargs.get("context")
        turn = current_turn.get() if context is None else context.get(current_turn)
        task = asyncio.Task(coro, loop=loop, **kwargs) if previous is None else previous(loop, coro, **kwargs)
        if turn is not None and not turn.closed:
            if turn.tasks is None:
                turn.tasks = set()
            turn.tasks.add(task)
        return task

    factory.__loom_previous__ = previous  # type: ignore[attr-defined]
    return factory
