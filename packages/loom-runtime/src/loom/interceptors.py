"""Interceptors: code around every call, turn and step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

__all__ = ["CallInfo", "Interceptor", "StepInfo", "TurnInfo"]


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An outgoing call: the target's stream, the method, and the request id."""

    stream: str
    method: str
    request_id: str


class TurnInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A handler about to run."""

    stream: str
    method: str
    request_id: str
    read_only: bool


class StepInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step about to run.

    ``idempotency_key`` is the same in every attempt and after every crash: hand it to the outside system.
    ``attempt`` counts from 1 within one host; after a crash it begins anew.
    """

    stream: str
    name: str
    position: str
    idempotency_key: str
    attempt: int = 1


class Interceptor:
    """Override what you need; each method awaits ``proceed()`` once and returns, changes or replaces its result.

    Interceptors nest in the order given to ``Loom``: the first is outermost. They must not block the event loop.
    An exception raised here counts as the call's, the handler's or the step's own.
    """

    async def call(self, info: CallInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Around a call, on the caller's side."""
        return await proceed()

    async def turn(self, info: TurnInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Around a handler, inside its turn and deadline."""
        return await proceed()

    async def step(self, info: StepInfo, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Around one attempt of a step."""
        return await proceed()


def nest(
    interceptors: tuple[Interceptor, ...], method: str, info: Any, innermost: Callable[[], Awaitable[Any]]
) -> Callable[[], Awaitable[Any]]:
    """``innermost`` wrapped by the method of that name of every interceptor."""
    proceed = innermost
    for interceptor in reversed(interceptors):
        proceed = _bind(getattr(interceptor, method), info, proceed)
    return proceed


def _bind(around: Any, info: Any, proceed: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    return lambda: around(info, proceed)
