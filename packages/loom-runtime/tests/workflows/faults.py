"""Do something at the k-th durable operation of a host: cancel a run, or never come back from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Faults:
    """Counts what a host makes durable: journal entries, pending records, queued and acked messages.

    At number ``at`` the host freezes for good, before the operation or after it, and ``frozen`` is set.
    """

    def __init__(self, at: int = 0, *, after: bool = False, only_entries: bool = False) -> None:
        self.at = at
        self.after = after
        self.only_entries = only_entries
        self.count = 0
        self.frozen = asyncio.Event()
        self.on_entry: Callable[[int], None] | None = None

    def install(self, app: Any) -> Faults:
        host = app.host
        self._wrap(host.journal, "append_many")
        if not self.only_entries:
            self._wrap(host.pending, "write", as_future=True)
            self._wrap(host.queue, "send_many")
            self._wrap(host.queue, "ack")
        return self

    def _wrap(self, owner: Any, name: str, *, as_future: bool = False) -> None:
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.frozen.is_set():
                await asyncio.Event().wait()
            self.count += 1
            mine = self.count
            if mine == self.at and not self.after:
                await self._freeze()
            result = await inner(*args, **kwargs)
            if mine == self.at:
                await self._freeze()
            if self.on_entry is not None:
                self.on_entry(mine)
            return result

        def begun(*args: Any, **kwargs: Any) -> asyncio.Task[Any]:
            return asyncio.Task(wrapped(*args, **kwargs))

        setattr(owner, name, begun if as_future else wrapped)
        self._undo = getattr(self, "_undo", [])
        self._undo.append((owner, name))

    async def _freeze(self) -> None:
        self.frozen.set()
        await asyncio.Event().wait()

    def remove(self) -> None:
        for owner, name in self._undo:
            owner.__dict__.pop(name, None)
