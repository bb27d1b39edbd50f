"""Calls of one moment carried out together, in their order: one script for all instead of one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Together"]

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Gathers the items of all calls made before the event loop comes around, and does them by one ``work``.

    ``work`` is given the calls' items, a list a call, and returns an outcome for each item, all in one list. What it
    raises, every one of these calls raises. A call that is cancelled may take effect all the same.
    """

    def __init__(self, work: Callable[[list[Sequence[T]]], Awaitable[list[R]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Sequence[T], asyncio.Future[list[R]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, items: Sequence[T]) -> list[R]:
        future: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if len(self._waiting) == 1:
            task = asyncio.ensure_future(self._flush())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _flush(self) -> None:
        calls, self._waiting = self._waiting, []
        try:
            outcomes = await self._work([items for items, _ in calls])
        except BaseException as error:
            for _, future in calls:
                if not future.done():
                    future.set_exception(error)
                    future.exception()
            if not isinstance(error, Exception):
                raise
            return
        at = 0
        for items, future in calls:
            if not future.done():
                future.set_result(outcomes[at : at + len(items)])
            at += len(items)
