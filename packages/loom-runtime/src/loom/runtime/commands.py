"""What a workflow can wait for. Awaiting a command yields it to the execution, which sends its outcome back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any

import msgspec

from ..codec import decoder
from .messages import Message

__all__ = ["Call", "ChildResult", "Command", "Gather", "Sleep", "StartChild", "Step", "WaitSignal"]


class Command:
    """The base. ``kind`` and ``name`` are recorded with the outcome and compared in a replay."""

    kind = ""
    interruptible = False
    position = ""
    strand: Any = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __await__(self) -> Generator[Command, Any, Any]:
        return (yield self)

    def decode(self, data: bytes) -> Any:
        """The recorded outcome as the type that the code expects."""
        return msgspec.msgpack.decode(data)


class Step(Command):
    """Run a function that touches the world."""

    kind = "step"

    def __init__(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], retries: int,
        timeout: float | None, undo: Callable[..., Any] | None, decode: Callable[[bytes], Any],
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.retries = retries
        self.timeout = timeout
        self.undo = undo
        self.decode = decode  # type: ignore[method-assign, assignment]


class Call(Command):
    """Call an actor until the outcome is known."""

    kind = "call"

    def __init__(self, name: str, message: Message, decode: Callable[[bytes], Any]) -> None:
        super().__init__(name)
        self.message = message
        self.decode = decode  # type: ignore[method-assign, assignment]


class Sleep(Command):
    """Wait until ``due`` (Unix time, set when it is asked)."""

    kind = "sleep"
    interruptible = True

    def __init__(self, seconds: float) -> None:
        super().__init__("sleep")
        self.seconds = seconds
        self.due = 0.0


class WaitSignal(Command):
    """Wait for a signal, until ``due`` if there is a timeout."""

    kind = "signal"
    interruptible = True

    def __init__(self, name: str, kind: Any, timeout: float | None) -> None:
        super().__init__(name)
        self.timeout = timeout
        self.due: float | None = None
        self.decode = decoder(kind).decode  # type: ignore[method-assign, assignment]


class StartChild(Command):
    """Start a child run; answered at once with the position under which its result comes."""

    kind = "child"

    def __init__(self, stream: str, args: bytes) -> None:
        super().__init__(stream)
        self.stream = stream
        self.args = args


class ChildResult(Command):
    """Wait for the child that was started at ``of``."""

    kind = "child-result"

    def __init__(self, stream: str, of: str, decode: Callable[[bytes], Any]) -> None:
        super().__init__(stream)
        self.of = of
        self.cancel_sent = False
        self.decode = decode  # type: ignore[method-assign, assignment]


class Gather(Command):
    """Run branches and wait for all."""

    kind = "gather"

    def __init__(self, branches: Sequence[Awaitable[Any]], return_exceptions: bool) -> None:
        super().__init__("gather")
        self.branches = branches
        self.return_exceptions = return_exceptions
