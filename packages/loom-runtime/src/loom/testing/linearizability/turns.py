"""How the clients of a load take turns: some waiting, some calls cancelled half way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Turns"]


class Turns:
    """Runs calls one after the other; a share ``cancel`` of those that may be is cancelled after a few rounds."""

    def __init__(self, dice: random.Random, cancel: float) -> None:
        self._dice = dice
        self._cancel = cancel

    def to_cancel(self) -> bool:
        """Whether the next call is one to cancel."""
        return self._dice.random() < self._cancel

    async def take(self, call: Callable[[], Coroutine[Any, Any, None]], *, cancelled: bool | None = None) -> None:
        """Pause, and run ``call`` to its end or, if it is one to cancel, part of the way."""
        for _ in range(self._dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        if not (self.to_cancel() if cancelled is None else cancelled):
            await call()
            return
        task = asyncio.ensure_future(call())
        for _ in range(self._dice.randint(0, 6)):
            await asyncio.sleep(0)
        task.cancel()
        # Not `await task`: a cancellation of the whole load must not be taken for this one.
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
