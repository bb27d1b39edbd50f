"""The event loop that a workflow sees: it refuses everything that would not be the same in a replay."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from ..errors import NonDeterminismError

__all__ = ["Sealed", "forbidden", "refused"]

_REPLACEMENTS = {
    "create_task": "asyncio.create_task and TaskGroup: use ctx.gather",
    "create_future": "asyncio.sleep, Event, Queue and the like: use ctx.sleep or ctx.wait_signal",
    "call_later": "timers: use ctx.sleep, or timeout= of ctx.step and ctx.wait_signal",
    "call_at": "asyncio.timeout: use timeout= of ctx.step and ctx.wait_signal",
    "call_soon": "callbacks: use ctx.gather",
    "run_in_executor": "threads: use ctx.step with a plain function",
    "time": "loop.time and asyncio.timeout: use ctx.now, or timeout= of ctx.step and ctx.wait_signal",
}


class _SealedLoop:
    """Stands in for the running loop while workflow code runs."""

    def create_task(self, coro: Any, **_: Any) -> NoReturn:
        coro.close()
        forbidden(_REPLACEMENTS["create_task"])

    def run_in_executor(self, *_: Any) -> NoReturn:
        forbidden(_REPLACEMENTS["run_in_executor"])

    def __getattr__(self, name: str) -> Any:
        forbidden(_REPLACEMENTS.get(name, f"loop.{name}: touch the world in ctx.step"))

    def __hash__(self) -> int:  # noqa: PLE0309 - it never returns
        forbidden("asyncio.current_task, TaskGroup and timeout: use ctx.gather, or timeout= of ctx.step")


_SEALED: Any = _SealedLoop()


def refused(what: str) -> NonDeterminismError:
    """The error for something that no workflow may do, naming the replacement."""
    error = NonDeterminismError(f"not in a workflow, where a replay would differ: {what}")
    error.refused = True  # type: ignore[attr-defined]
    return error


def forbidden(what: str) -> NoReturn:
    """Raise NonDeterminismError naming the replacement."""
    raise refused(what)


class Sealed:
    """Hides the running event loop from the code inside. A class, because every resumption of a run enters it."""

    __slots__ = ("_running",)

    def __enter__(self) -> None:
        self._running = asyncio._get_running_loop()
        asyncio._set_running_loop(_SEALED)

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(self._running)
