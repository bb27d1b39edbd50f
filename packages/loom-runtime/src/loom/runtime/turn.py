"""One invocation of a handler: its copy of the state, its effects, its deadline."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..actor import Handler
from ..codec import error_from
from ..context import TurnContext
from ..errors import (
    CallCycleError,
    InvalidArgumentsError,
    LoomError,
    ReadOnlyViolationError,
    TurnClosedError,
    TurnDeadlineError,
)
from ..references import ActorMethod, keyed_request
from .effects import Effects
from .entries import TurnStep
from .messages import Kind, Message, actor_stream, derived_id

if TYPE_CHECKING:
    from .actor_cell import ActorCell

__all__ = ["Turn", "current_turn"]

current_turn: contextvars.ContextVar[Turn | None] = contextvars.ContextVar("loom_turn", default=None)


class Turn:
    """What ``self`` stands on while a handler runs."""

    __slots__ = (
        "_ctx", "_count", "began", "cell", "closed", "deadline", "effects", "handler", "key", "memo", "message",
        "state", "tasks", "timed_out", "waiting_for", "where",
    )  # fmt: skip

    def __init__(self, cell: ActorCell, message: Message, handler: Handler | None, state: Any, deadline: float) -> None:
        self.cell = cell
        self.message = message
        self.handler = handler
        self.state = state
        self.key = cell.key
        self.where = cell.stream if handler is None else f"{cell.stream}.{handler.name}"
        self.deadline = deadline  # monotonic
        self.closed = False
        self.timed_out = False
        self.began = False
        self.effects = Effects()
        self.memo: dict[str, TurnStep] = {}
        self.tasks: set[asyncio.Task[Any]] | None = None
        self.waiting_for = ""
        self._ctx: TurnContext | None = None
        self._count = 0

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
        """Call another actor and wait; the call ends with the turn's deadline at the latest."""
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
        position, now = self.next_position(), host.clock.now()
        request, fingerprint = derived_id(self.cell.stream, self.message.id, position), b""
        if method.idempotency_key is not None:
            request, fingerprint = keyed_request(method.handler.name, method.idempotency_key, args)
        message = Message(
            id=request, kind=Kind.CALL, stream=stream, method=method.handler.name, args=args, sent_at=now,
            expires_at=max(self.message.expires_at, now + host.options.call_timeout),
            remember=self.message.remember or bool(fingerprint), deadline=now + max(0.0, self.remaining()),
            fingerprint=fingerprint, chain=chain,
        )  # fmt: skip
        self.waiting_for = f"{stream}.{method.handler.name}"
        reply = await host.router.call(message, timeout=max(0.0, self.remaining()) + 1.0)
        self.waiting_for = ""
        self.check_open()
        if reply.error is not None:
            raise error_from(reply.error)
        return method.handler.signature.decode_result(reply.result or b"\xc0")

    def send(self, kind: Kind, stream: str, method: str, args: bytes, *, delay: float = 0.0, request: str = "") -> None:
        """Send a message with the commit of this turn."""
        self.check_writable("send")
        options, now = self.cell.host.options, self.cell.host.clock.now()
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
        recorded = self.memo.get(position)
        if recorded is None:
            recorded = await self.cell.record_step(self, position, function, args, kwargs, retries, timeout, name)
        elif recorded.name != name:
            raise InvalidArgumentsError(
                f"{self.where}: step {position} was recorded as {recorded.name!r} and the code now asks {name!r}"
            )
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


Proceed = Callable[[], Awaitable[Any]]
