"""The runtime's own tasks: kept alive, run outside any caller's context, waited for at the end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Background"]

T = TypeVar("T")

_log = logging.getLogger("loom")


class Background:
    """Spawns each task in a clean context of its own, so that nothing of one turn or step leaks into another."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run ``work``; an exception that nobody awaits is logged."""
        # Not loop.create_task: the loop's task factory watches for tasks of turns, and this is none.
        task = asyncio.Task(work, loop=self._loop, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def cancel(self) -> None:
        """Cancel what still runs and wait for it."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5.0)
            if all(not task.done() for task in tasks):
                _log.warning("loom: %d background tasks did not end when cancelled: %s", len(tasks), tasks[0])
                return

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("loom: background task %s failed", task.get_name(), exc_info=error)
