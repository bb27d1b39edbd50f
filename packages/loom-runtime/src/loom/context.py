"""What a handler and a workflow may ask of the runtime."""

from __future__ import annotations

import datetime as dt
import logging
import random as _random
import uuid as _uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from .actor import Actor, ActorType
from .codec import encode
from .references import ActorMethod, ActorRef

if TYPE_CHECKING:
    from .runtime.execution import Execution
    from .runtime.turn import Turn
    from .workflow import Workflow

__all__ = ["ChildRun", "Context", "RunRequests", "TurnContext"]

A = TypeVar("A", bound=Actor[Any])
T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("loom.actor")


class TurnContext:
    """``self.ctx`` in an actor."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    @property
    def now(self) -> dt.datetime:
        """The time in UTC."""
        return dt.datetime.fromtimestamp(self._turn.cell.host.clock.now(), dt.UTC)

    @property
    def request_id(self) -> str:
        """The id of the request that this turn answers: the same in every redelivery."""
        return self._turn.message.id

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the actor and the request."""
        return logging.LoggerAdapter(_log, {"actor": self._turn.cell.stream, "request": self._turn.message.id})

    def actor(self, actor: type[A], key: str, *, idempotency_key: str | None = None) -> A:
        """A reference to another actor. Calls through it end with this turn's deadline at the latest.

        Called again by a turn that runs again after a crash, the other actor answers without running twice.
        """
        return cast(A, ActorRef(self._turn, ActorType.of(actor), key, idempotency_key))

    def send(self, method: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``ctx.actor(Account, "bob").deposit`` later, exactly once, if this turn commits; nobody waits for it.

        Messages of one actor to one other arrive in the order sent, where the queue is ORDERED. A handler that raises
        is tried again with growing pauses, and ends among the dead letters.
        """
        self._turn.cell.send_method(self._turn, _bound(method), args, kwargs, 0.0)

    def remind(
        self, name: str, when: dt.datetime | dt.timedelta | float, method: Callable[P, Awaitable[Any]] | str,
        *args: P.args, **kwargs: P.kwargs,
    ) -> None:  # fmt: skip
        """Call a handler of this actor at ``when``: a time, or a delay as timedelta or seconds.

        Set by this turn's commit; a reminder of the same name is replaced; survives restarts. Fires once, not before
        ``when``, and as soon after it as a host has the actor's shard.
        """
        turn = self._turn
        turn.check_writable("remind")
        if isinstance(when, dt.datetime):
            if when.tzinfo is None:
                raise ValueError(f"remind({name!r}): {when!r} has no time zone; use datetime.now(timezone.utc) + …")
            due = when.timestamp()
        else:
            seconds = when.total_seconds() if isinstance(when, dt.timedelta) else float(when)
            due = turn.cell.host.clock.now() + seconds
        handler = method if isinstance(method, str) else getattr(method, "__name__", "") or _bound(method).handler.name
        turn.cell.set_reminder(turn, name, due, handler, args, kwargs)

    def cancel_reminder(self, name: str) -> None:
        """Forget a reminder with this turn's commit; harmless when there is none."""
        self._turn.check_writable("cancel a reminder")
        self._turn.effects.reminders = [r for r in self._turn.effects.reminders if r.name != name]
        self._turn.effects.forgotten.append(name)

    def workflow(self, workflow: Workflow[P, R], run_id: str) -> RunRequests[P]:
        """A run to start, signal or cancel with this turn's commit."""
        return RunRequests(self._turn, workflow, run_id)

    @overload
    def step(
        self, function: Callable[P, Coroutine[Any, Any, T]], *, retries: int = 0, timeout: float | None = None,
        name: str | None = None,
    ) -> Callable[P, Awaitable[T]]: ...  # fmt: skip
    @overload
    def step(
        self, function: Callable[P, T], *, retries: int = 0, timeout: float | None = None, name: str | None = None
    ) -> Callable[P, Awaitable[T]]: ...
    def step(self, function: Any, *, retries: int = 0, timeout: float | None = None, name: str | None = None) -> Any:
        """Touch the outside world: at least once, and never again once its result is recorded. See ``Context.step``."""

        def bind(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._turn.run_step(function, args, kwargs, retries, timeout, name or _name_of(function))

        return bind

    def resource(self, kind: type[T]) -> T:
        """What the app's lifespan yielded for ``kind``. Raises LookupError naming what there is."""
        return self._turn.cell.host.resources.get(kind)


class RunRequests(Generic[P]):
    """Requests to a run that leave with the commit of the turn: ``self.ctx.workflow(transfer, "t-1").start(…)``."""

    def __init__(self, turn: Turn, workflow: Workflow[Any, Any], run_id: str) -> None:
        self._turn = turn
        self._workflow = workflow
        self._run_id = run_id

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Start the run; a run of this id that exists already is left alone."""
        self._turn.cell.send_to_run(
            self._turn, self._workflow.name, self._run_id, "start", self._workflow.signature.encode(args, kwargs)
        )

    def signal(self, name: str, value: Any = None) -> None:
        """Send a signal to the run."""
        self._turn.cell.send_to_run(self._turn, self._workflow.name, self._run_id, f"signal:{name}", encode(value))

    def cancel(self, reason: str = "") -> None:
        """Ask the run to stop."""
        self._turn.cell.send_to_run(self._turn, self._workflow.name, self._run_id, "cancel", encode(reason))


class Context:
    """``ctx`` in a workflow.

    Everything awaited through it is recorded: after a crash the function runs again from the start, and each of these
    gives at once what it gave before. Decide by arguments and ``ctx`` alone, and touch the world only in steps.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._execution.run_id

    @property
    def now(self) -> dt.datetime:
        """The recorded time, in UTC, of the event that the workflow is reacting to; never goes back."""
        return dt.datetime.fromtimestamp(self._execution.at, dt.UTC)

    @property
    def random(self) -> _random.Random:
        """A generator that gives the same numbers in every replay. Not for secrets."""
        return self._execution.random

    def uuid(self) -> _uuid.UUID:
        """A UUID that is the same in every replay."""
        return _uuid.UUID(int=self._execution.random.getrandbits(128), version=4)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the run and is silent while the run replays."""
        return self._execution.logger

    @overload
    def step(
        self, function: Callable[P, Coroutine[Any, Any, T]], *, retries: int = 0, timeout: float | None = None,
        undo: Callable[..., Any] | None = None, name: str | None = None,
    ) -> Callable[P, Awaitable[T]]: ...  # fmt: skip
    @overload
    def step(
        self, function: Callable[P, T], *, retries: int = 0, timeout: float | None = None,
        undo: Callable[..., Any] | None = None, name: str | None = None,
    ) -> Callable[P, Awaitable[T]]: ...  # fmt: skip
    def step(
        self, function: Any, *, retries: int = 0, timeout: float | None = None,
        undo: Callable[..., Any] | None = None, name: str | None = None,
    ) -> Any:  # fmt: skip
        """Touch the outside world: ``await ctx.step(charge, retries=5, timeout=10)(card, amount)``.

        A coroutine function, or a plain one that runs in a thread. It runs at least once: a crash between its effect
        and its record makes it run again, even concurrently, under the same ``step_info().idempotency_key``. Once
        recorded it never runs again. ``retries`` more attempts follow a failed one, with growing pauses; ``timeout``
        seconds bound each attempt. The last failure is raised here. ``undo`` is called with the same arguments, after
        those of later steps, when the run fails or is cancelled and this step's outcome is success *or unknown*.
        """

        def bind(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._execution.step(function, args, kwargs, retries, timeout, undo, name or _name_of(function))

        return bind

    def actor(self, actor: type[A], key: str, *, idempotency_key: str | None = None) -> A:
        """A reference to an actor. A call through it is retried until its outcome is known, and takes effect once."""
        return cast(A, ActorRef(self._execution, ActorType.of(actor), key, idempotency_key))

    def send(self, method: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``ctx.actor(Account, "bob").deposit`` later, exactly once; nobody waits for it."""
        self._execution.send(_bound(method), args, kwargs)

    async def sleep(self, seconds: float | dt.timedelta) -> None:
        """Wait; survives restarts, costs nothing while it waits."""
        await self._execution.sleep(seconds.total_seconds() if isinstance(seconds, dt.timedelta) else float(seconds))

    @overload
    async def wait_signal(self, name: str, *, timeout: float | None = None) -> Any: ...
    @overload
    async def wait_signal(self, name: str, type: type[T], *, timeout: float | None = None) -> T: ...
    async def wait_signal(self, name: str, type: Any = object, *, timeout: float | None = None) -> Any:
        """The next unread signal of that name, validated as ``type``. Raises TimeoutError after ``timeout`` seconds.

        Signals that arrive before anybody waits are kept, in their order.
        """
        return await self._execution.wait_signal(name, Any if type is object else type, timeout)

    def workflow(self, workflow: Workflow[P, R], run_id: str) -> ChildRun[P, R]:
        """A child run: ``await ctx.workflow(transfer, "t-1").run(…)``.
        Cancelling this run cancels a child it awaits.
        """
        return ChildRun(self._execution, workflow, run_id)

    async def gather(self, *branches: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
        """Run branches concurrently; their results in the order given. At most 1,000; larger fan-outs go through
        children.

        When one fails, the others are cancelled where they sleep, wait for a signal or begin something new, and the
        first failure is raised when all have ended. With ``return_exceptions`` none is cancelled and failures are
        returned in their places.
        """
        results: list[Any] = await self._execution.gather(branches, return_exceptions)
        return results

    def add_compensation(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function`` if the run fails or is cancelled, after compensations added later.

        A handler of a reference (``ctx.actor(Account, source).deposit``) is called as an actor; anything else runs as
        a step with five retries. One that fails does not stop the others.
        """
        self._execution.add_compensation(function, args, kwargs)

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this incarnation and begin the next under the same id with new arguments and an empty journal.

        Signals that nobody has read carry over.
        """
        self._execution.continue_as_new(args, kwargs)

    def version(self, change_id: str, latest: int = 1) -> int:
        """Which code to run at a change: ``latest`` for runs that get here anew, 0 for those that were past it already.

        What a run is given is recorded. Raises NonDeterminismError when newer code has marked the run.
        """
        return self._execution.version(change_id, latest)

    def publish(self, name: str, value: Any) -> None:
        """Let ``handle.get(name)`` read ``value`` from outside, from the next commit on and after the end."""
        self._execution.publish(name, value)

    def resource(self, kind: type[T]) -> T:
        """What the app's lifespan yielded for ``kind``: for arguments of steps.
        Raises LookupError naming what there is.
        """
        return self._execution.resources.get(kind)


class ChildRun(Generic[P, R]):
    """A run that another run starts: ``ctx.workflow(transfer, "t-1")``."""

    def __init__(self, execution: Execution, workflow: Workflow[Any, Any], run_id: str) -> None:
        self._execution = execution
        self._workflow = workflow
        self._run_id = run_id
        self._position = ""

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """Start the child and wait for its result; its failure is raised here."""
        await self.start(*args, **kwargs)
        return await self.result()

    async def start(self, *args: Any, **kwargs: Any) -> ChildRun[P, R]:
        """Start the child; from here it runs by itself, whatever becomes of this run."""
        encoded = self._workflow.signature.encode(args, kwargs)
        self._position = await self._execution.start_child(self._workflow, self._run_id, encoded)
        return self

    async def result(self) -> Any:
        """Wait for the child that ``start`` started."""
        if not self._position:
            raise RuntimeError(f"child run {self._run_id!r}: start it before waiting for its result")
        return await self._execution.child_result(self._workflow, self._run_id, self._position)

    def signal(self, name: str, value: Any = None) -> None:
        """Send a signal to the child."""
        self._execution.send_to_run(self._workflow.name, self._run_id, f"signal:{name}", encode(value))

    def cancel(self, reason: str = "") -> None:
        """Ask the child to stop."""
        self._execution.send_to_run(self._workflow.name, self._run_id, "cancel", encode(reason))


def _bound(method: Any) -> ActorMethod:
    if not isinstance(method, ActorMethod):
        raise TypeError(
            f"{method!r} is not a handler of a reference; pass ctx.actor(Account, 'bob').deposit, not called"
        )
    return method


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or getattr(getattr(function, "func", None), "__qualname__", None)
    return str(name or type(function).__qualname__)
