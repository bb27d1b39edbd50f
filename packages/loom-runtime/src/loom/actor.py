"""Actors: classes whose public ``async def`` methods are durable turns over one state."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .codec import decoder
from .errors import DefinitionError, SerializationError, TurnClosedError
from .signature import Signature

if TYPE_CHECKING:
    from .context import TurnContext

__all__ = ["Actor", "ActorType", "Handler", "read_only"]

S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])

_RESERVED = frozenset({"initial_state", "on_activate", "on_deactivate", "upgrade"})
_MAX_NAME = 200


class Actor(Generic[S]):
    """The base of an actor class: ``class Account(Actor[AccountState])``.

    Every public ``async def`` is a handler. A handler runs alone on this actor, on a copy of the state; when it
    returns, state, result and outgoing messages are committed by one append to the actor's journal, and the caller
    hears of it afterwards. A handler that raises changes nothing. ``@read_only`` handlers run beside others on the
    committed state.

    Attributes set on ``self`` other than ``state`` are a cache of this activation: they are never stored.
    """

    __slots__ = ("__dict__", "__weakref__", "_turn")

    state_version: int = 1
    """Raise it when the state type changes incompatibly, and give ``upgrade``."""
    turn_deadline: float | None = None
    """Seconds that a handler may take; None takes the runtime's ``turn_deadline``."""

    _turn: Any

    @property
    def key(self) -> str:
        """The actor's key."""
        key: str = self._turn.key
        return key

    @property
    def state(self) -> S:
        """The turn's copy of the state. Raises TurnClosedError in a task that outlives its turn."""
        turn = self._turn
        if turn.closed:
            raise TurnClosedError(
                f"{turn.where}: the turn has ended; its state is no longer reachable", where=turn.where
            )
        state: S = turn.state
        return state

    @state.setter
    def state(self, value: S) -> None:
        turn = self._turn
        if turn.closed:
            raise TurnClosedError(
                f"{turn.where}: the turn has ended; its state is no longer reachable", where=turn.where
            )
        turn.state = value

    @property
    def ctx(self) -> TurnContext:
        """What a handler may ask of the runtime: other actors, steps, reminders, resources, time."""
        ctx: TurnContext = self._turn.ctx
        return ctx

    def initial_state(self) -> S:
        """The state of an actor that nobody has called yet. By default the state type without arguments."""
        state_type = type(self).__dict__["__loom_type__"].state_type
        if state_type is type(None):
            return typing.cast(S, None)
        try:
            state: S = state_type()
        except TypeError as error:
            raise DefinitionError(
                f"{type(self).__name__}: {state_type.__name__}() needs arguments ({error}); "
                f"give its fields defaults, or define {type(self).__name__}.initial_state"
            ) from error
        return state

    async def on_activate(self) -> None:
        """Called before the first turn of an activation. May fill caches; changes of ``state`` are refused."""

    async def on_deactivate(self) -> None:
        """Called when an idle actor leaves memory. Best effort: a crash skips it, so it is never the only save."""

    def upgrade(self, old: Any, version: int) -> S:
        """The state of today's type from ``old`` (builtin types) as stored under ``version``. Must be deterministic."""
        raise DefinitionError(
            f"{type(self).__name__}: stored state has version {version}, the class has {self.state_version}; "
            f"define {type(self).__name__}.upgrade(old, version)"
        )


@overload
def read_only(handler: F) -> F: ...
@overload
def read_only(*, stale_ok: float = 0.0) -> Callable[[F], F]: ...


def read_only(handler: Any = None, *, stale_ok: float = 0.0) -> Any:
    """Mark a handler that changes nothing: it runs beside turns, on an immutable view of the committed state.

    In a cluster the host confirms that it still sees the newest commit, unless ``stale_ok`` seconds of staleness do.
    Changing the state, sending, reminding or stepping in it raises ReadOnlyViolationError.
    """

    def mark(function: Any) -> Any:
        function.__loom_read_only__ = stale_ok
        return function

    return mark if handler is None else mark(handler)


class Handler:
    """One handler of an actor class."""

    __slots__ = ("function", "name", "read_only", "signature", "stale_ok")

    def __init__(self, where: str, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        stale_ok = getattr(function, "__loom_read_only__", None)
        self.read_only = stale_ok is not None
        self.stale_ok = stale_ok or 0.0
        self.signature = Signature(f"{where}.{name}", function, skip=1)


class ActorType:
    """What the runtime knows of an actor class. ``ActorType.of(cls)`` checks the class once and remembers."""

    def __init__(self, cls: type[Actor[Any]]) -> None:
        given: Any = cls
        if not isinstance(given, type) or not issubclass(given, Actor) or given is Actor:
            raise DefinitionError(f"{cls!r} is not an actor class; derive it from loom.Actor")
        self.cls = cls
        self.name = cls.__name__
        if len(self.name.encode()) > _MAX_NAME:
            raise DefinitionError(f"actor class name {self.name[:40]!r}… is longer than {_MAX_NAME} bytes")
        self.state_type = _state_type(cls)
        self.state_version = cls.state_version
        self.handlers: dict[str, Handler] = {}
        for name in dir(cls):
            if name.startswith("_") or name in _RESERVED:
                continue
            function = inspect.getattr_static(cls, name)
            if inspect.iscoroutinefunction(function):
                self.handlers[name] = Handler(self.name, name, function)
            elif hasattr(function, "__loom_read_only__"):
                raise DefinitionError(f"{self.name}.{name} is @read_only but not an async def")
        try:
            self._decoder = decoder(self.state_type)
        except SerializationError as error:
            raise DefinitionError(f"{self.name}: its state can't be stored: {error}") from error
        self.decode_state = self._decoder.decode

    @classmethod
    def of(cls, actor: type[Actor[Any]]) -> ActorType:
        """The description of an actor class. Raises DefinitionError when the class is declared wrongly."""
        found = getattr(actor, "__dict__", {}).get("__loom_type__")
        if found is None:
            found = cls(actor)
            actor.__loom_type__ = found  # type: ignore[attr-defined]
        kind: ActorType = found
        return kind


def _state_type(cls: type[Any]) -> Any:
    for base in cls.__mro__:
        for parent in getattr(base, "__orig_bases__", ()):
            origin = typing.get_origin(parent)
            if isinstance(origin, type) and issubclass(origin, Actor):
                [state_type] = typing.get_args(parent)
                if isinstance(state_type, TypeVar):
                    continue
                if isinstance(state_type, str | typing.ForwardRef):
                    raise DefinitionError(
                        f"{cls.__name__}: its state type {state_type!r} is a forward reference; define it before the "
                        f"actor"
                    )
                return type(None) if state_type is None else state_type
    return type(None)
