"""The lines of a workflow's control flow: the function itself, and the branches of its gathers."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

from .commands import Command, Gather

__all__ = ["Compensation", "Group", "Strand", "as_coroutine", "dispose"]


class Strand:
    """One line of control flow. Positions are its ``path`` and a count of what it has asked.

    ``cancel`` is empty, ``wanted`` until the strand gets to a place where it may be stopped, then ``delivered``.
    """

    __slots__ = ("cancel", "coroutine", "count", "group", "index", "path", "waiting")

    def __init__(self, path: str, coroutine: Coroutine[Any, Any, Any], group: Group | None, index: int) -> None:
        self.path = path
        self.coroutine = coroutine
        self.group = group
        self.index = index
        self.count = 0
        self.waiting: Command | None = None
        self.cancel = ""


class Group:
    """The branches of one gather."""

    __slots__ = ("command", "failure", "owner", "remaining", "results", "strands")

    def __init__(self, owner: Strand, command: Gather) -> None:
        self.owner = owner
        self.command = command
        self.strands: list[Strand] = []
        self.results: list[Any] = [None] * len(command.branches)
        self.remaining = len(command.branches)
        self.failure: BaseException | None = None


class Compensation:
    """What takes back one thing that the run has done; ``position`` is that of the step whose undo it is."""

    __slots__ = ("args", "function", "kwargs", "position")

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], position: str = "") -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.position = position


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """The awaitable as something that can be sent to."""
    return awaitable if isinstance(awaitable, Coroutine) else _await(awaitable)


def dispose(branches: Any) -> None:
    """Close coroutines that will not be run after all."""
    for branch in branches:
        if isinstance(branch, Coroutine):
            branch.close()
