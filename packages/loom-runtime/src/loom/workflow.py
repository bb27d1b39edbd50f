"""Workflows: async functions whose progress is durable."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from .context import Context
from .errors import DefinitionError
from .signature import Signature

__all__ = ["Workflow", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]


class Workflow(Generic[P, R]):
    """A workflow definition, made by ``@workflow``. ``name`` is how runs, journals and the shell call it."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, R]], name: str | None = None) -> None:
        if not inspect.iscoroutinefunction(function):
            raise DefinitionError(f"@workflow: {function!r} is not an async def")
        self.name = name or function.__name__
        if "/" in self.name or not self.name:
            raise DefinitionError(f"@workflow: the name {self.name!r} is empty or holds a slash")
        parameters = list(inspect.signature(function).parameters)
        if not parameters:
            raise DefinitionError(f"workflow {self.name}: its first parameter must be ctx: Context")
        self.function = function
        self.__doc__ = function.__doc__
        self.__name__ = self.name
        self.__module__ = function.__module__
        self.__qualname__ = function.__qualname__
        self._signature: Signature | None = None

    @property
    def signature(self) -> Signature:
        """The parameters after ``ctx``, and the result. Raises DefinitionError when they can't be validated."""
        if self._signature is None:
            self._signature = Signature(self.name, self.function, skip=1)
        return self._signature

    def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Run the body inside another workflow, as an ordinary coroutine of it (not as a child run)."""
        return self.function(ctx, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


@overload
def workflow(function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> Workflow[P, R]: ...
@overload
def workflow(*, name: str) -> Callable[[Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]], Workflow[P, R]]: ...


def workflow(function: Any = None, *, name: str | None = None) -> Any:
    """Make an ``async def f(ctx: Context, …)`` a workflow. It must decide by its arguments and ``ctx`` alone.

    What touches the world goes into ``ctx.step``; time, randomness and ids come from ``ctx``.
    """
    if function is None:
        return lambda decorated: Workflow(decorated, name)
    return Workflow(function, name)
