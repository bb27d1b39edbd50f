"""Clients: whoever calls actors and runs from outside. A client never hosts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from .actor import Actor, ActorType
from .clock import Clock
from .codec import decode, encode, error_from
from .errors import (
    NotRunningError,
    OutcomeUnknownError,
    WorkflowCancelledError,
)
from .interceptors import CallInfo, Interceptor, nest
from .options import RuntimeOptions
from .references import ActorMethod, ActorRef, keyed_request
from .runtime.ids import Ids
from .runtime.messages import Kind, Message, Reply, actor_stream, derived_id, run_stream
from .runtime.pending import PendingRecord, PendingRecords
from .runtime.router import Router
from .runtime.run_status import RunOutcome, RunStatus
from .runtime.turn import check_size
from .workflow import Workflow

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Client", "RunHandle", "RunSummary"]

A = TypeVar("A", bound=Actor[Any])
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_POLL = 10.0


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run's line in a listing; as of its last change of status, which may be a moment old. Times are Unix time."""

    workflow: str
    run_id: str
    status: str
    started_at: float
    finished_at: float | None = None
    error: str | None = None


class Client:
    """Calls actors and workflows; made by ``app.client()``, and inside a started app by the app itself.

    A reply that does not come within the call timeout raises OutcomeUnknownError: the call may have happened. Calling
    again with the same idempotency key is safe.
    """

    def __init__(
        self, router: Router, pending: PendingRecords, options: RuntimeOptions, clock: Clock,
        interceptors: tuple[Interceptor, ...], local: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._router = router
        self._pending = pending
        self._options = options
        self._clock = clock
        self._interceptors = interceptors
        self._local = local
        self._ids = Ids()
        self._closed = False

    def actor(self, actor: type[A], key: str, *, idempotency_key: str | None = None) -> A:
        """A reference to an actor, typed as its class.

        With ``idempotency_key`` the reference serves one call, which takes effect once however often it is repeated
        with the same key, method and arguments within the idempotency window; other arguments raise
        IdempotencyConflictError.
        """
        return cast(A, ActorRef(self, ActorType.of(actor), key, idempotency_key))

    def workflow(self, workflow: Workflow[P, R], run_id: str) -> RunHandle[P, R]:
        """A handle to a run, whether it exists yet or not."""
        return RunHandle(self, workflow.name, run_id, workflow)

    def run(self, workflow: str, run_id: str) -> RunHandle[..., Any]:
        """A handle by the workflow's name, for those who don't have its code. Results come as builtin types."""
        return RunHandle(self, workflow, run_id, None)

    async def call(
        self, actor_type: str, key: str, method: str, *args: Any, idempotency_key: str | None = None, **kwargs: Any
    ) -> Any:
        """Call a handler by name, for those who don't have the actor's code. The result comes as builtin types."""
        encoded = encode(kwargs if kwargs else list(args))
        if args and kwargs:
            raise TypeError("call: give positional or keyword arguments, not both")
        message = self._message(Kind.CALL, actor_stream(actor_type, key), method, encoded)
        if idempotency_key is not None:
            self._key(message, idempotency_key)
        return await self._intercepted(message, decode)

    async def runs(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        since: dt.datetime | None = None,
        limit: int = 100,
    ) -> list[RunSummary]:
        """Runs, newest first. Eventually consistent: a run that has just begun or ended may show late."""
        after = 0.0 if since is None else since.timestamp()
        records = await self._pending.runs(status=status, workflow=workflow, since=after, limit=limit)
        return [_summary(record) for record in records]

    async def call_actor(self, method: ActorMethod, args: bytes) -> Any:
        """Carry out a call through a reference."""
        handler = method.handler
        message = self._message(Kind.CALL, actor_stream(method.actor_type, method.key), handler.name, args)
        if method.idempotency_key is not None:
            self._key(message, method.idempotency_key)
        return await self._intercepted(message, handler.signature.decode_result)

    async def _intercepted(self, message: Message, decode_result: Callable[[bytes], Any]) -> Any:
        if not self._interceptors:
            return decode_result(await self._send(message))
        info = CallInfo(stream=message.stream, method=message.method, request_id=message.id)

        async def proceed() -> Any:
            return decode_result(await self._send(message))

        return await nest(self._interceptors, "call", info, proceed)()

    async def ask(
        self, kind: Kind, stream: str, method: str = "", args: bytes = b"\x80", *, request: str = ""
    ) -> bytes:
        """Send a request of the runtime's own to a run and give its raw answer."""
        message = self._message(kind, stream, method, args)
        if request:
            message.id = request
        return await self._send(message)

    async def run_to_end(self, stream: str, args: bytes) -> RunOutcome:
        """Start a run, and wait for its outcome however long it takes."""
        message = self._message(Kind.RUN, stream, "", args)
        message.id = derived_id("start", stream)
        message.deadline = self._clock.now() + _POLL
        check_size(f"the arguments of {stream}", args, self._options.max_message_bytes)
        self._check_open()
        reply = await self._router.call(message, timeout=max(_POLL + 1.0, self._options.call_timeout))
        outcome: RunOutcome = decode(_value(reply), RunOutcome)
        return outcome if outcome.status != "running" else await self.wait_result(stream, None)

    async def wait_result(self, stream: str, timeout: float | None) -> RunOutcome:
        """Wait for the outcome of a run. Raises TimeoutError."""
        until = None if timeout is None else self._clock.monotonic() + timeout
        while True:
            wait = _POLL if until is None else min(_POLL, until - self._clock.monotonic())
            if wait <= 0:
                raise TimeoutError(f"{stream} has not ended within {timeout:g} s; it goes on")
            message = self._message(Kind.RESULT, stream, "", b"\x80")
            message.deadline = self._clock.now() + wait
            try:
                reply = await self._router.call(message, timeout=wait + 1.0)
            except OutcomeUnknownError:
                continue
            outcome: RunOutcome = decode(_value(reply), RunOutcome)
            if outcome.status != "running":
                return outcome

    def _message(self, kind: Kind, stream: str, method: str, args: bytes) -> Message:
        now = self._clock.now()
        until = now + self._options.call_timeout
        return Message(
            id=self._ids.next(), kind=kind, stream=stream, method=method, args=args, sent_at=now, expires_at=until,
            deadline=until, remember=not self._local(stream),
        )  # fmt: skip

    def _key(self, message: Message, idempotency_key: str) -> None:
        message.id, message.fingerprint = keyed_request(message.method, idempotency_key, message.args)
        message.remember = True
        message.expires_at = message.sent_at + self._options.idempotency_window

    async def _send(self, message: Message) -> bytes:
        check_size(f"the arguments of {message.stream}", message.args, self._options.max_message_bytes)
        self._check_open()
        return _value(await self._router.call(message, timeout=self._options.call_timeout))

    def _check_open(self) -> None:
        if self._closed:
            raise NotRunningError("the app is not running; use 'async with app:' or 'async with app.client():'")


class RunHandle(Generic[P, R]):
    """A run seen from outside."""

    def __init__(self, client: Client, workflow: str, run_id: str, definition: Workflow[Any, Any] | None) -> None:
        self._client = client
        self._definition = definition
        self._stream = run_stream(workflow, run_id)
        self.workflow = workflow
        self.run_id = run_id

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[P, R]:
        """Start the run; durable when this returns. A run of this id that exists already is left as it is."""
        request = derived_id("start", self._stream)
        await self._client.ask(Kind.START, self._stream, args=self._encoded(*args, **kwargs), request=request)
        return self

    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start the run and wait for its result, however long it takes."""
        return self._result_of(await self._client.run_to_end(self._stream, self._encoded(*args, **kwargs)))

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the result. Raises the run's own error, WorkflowCancelledError, or TimeoutError after ``timeout``
        s.
        """
        return self._result_of(await self._client.wait_result(self._stream, timeout))

    def _encoded(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        if self._definition is not None:
            return self._definition.signature.encode(args, kwargs)
        return encode(kwargs if kwargs else list(args))

    def _result_of(self, outcome: RunOutcome) -> R:
        if outcome.status == "cancelled":
            raise WorkflowCancelledError(f"{self._stream} was cancelled", stream=self._stream)
        if outcome.error is not None:
            raise error_from(outcome.error)
        data = outcome.value or b"\xc0"
        if self._definition is None:
            return cast(R, decode(data))
        return cast(R, self._definition.signature.decode_result(data))

    async def signal(self, name: str, value: Any = None) -> None:
        """Send a signal; recorded when this returns.
        Raises InvalidArgumentsError when a waiting run wants another type.
        """
        await self._client.ask(Kind.SIGNAL, self._stream, name, encode(value))

    async def cancel(self, reason: str = "") -> bool:
        """Ask the run to stop: it compensates, then ends as cancelled. False when it has ended already."""
        return bool(decode(await self._client.ask(Kind.CANCEL, self._stream, args=encode(reason))))

    async def retry(self) -> None:
        """Run a failed or cancelled run again: from its failure, or from the start where compensations have run."""
        await self._client.ask(Kind.RETRY, self._stream)

    async def status(self) -> RunStatus:
        """What the run is doing. Raises RunNotFoundError."""
        status: RunStatus = decode(await self._client.ask(Kind.STATUS, self._stream), RunStatus)
        return status

    @overload
    async def get(self, name: str) -> Any: ...
    @overload
    async def get(self, name: str, type: type[T]) -> T: ...
    async def get(self, name: str, type: Any = object) -> Any:
        """A value that the run has published. Raises LookupError when it has not."""
        return decode(await self._client.ask(Kind.GET, self._stream, name), Any if type is object else type)

    def __repr__(self) -> str:
        return f"<run {self.workflow}/{self.run_id}>"


def _value(reply: Reply) -> bytes:
    if reply.error is not None:
        raise error_from(reply.error)
    return reply.result or b"\xc0"


def _summary(record: PendingRecord) -> RunSummary:
    _, workflow, run_id = record.stream.split("/", 2)
    return RunSummary(
        workflow=workflow, run_id=run_id, status=record.status or "running", started_at=record.since or 0.0,
        finished_at=record.ended, error=record.error,
    )  # fmt: skip
