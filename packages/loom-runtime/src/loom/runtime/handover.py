"""Handing over: shards that go to another host leave this one in good order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from .actor_cell import ActorCell
from .cell import Cell
from .messages import mailbox_queue, type_mailbox, type_of
from .types_apart import Unit

if TYPE_CHECKING:
    from .host import Host

__all__ = ["HandOver"]

_AT_ONCE = 100
"""How many cells are deactivated at once."""


class HandOver:
    """Lets go of what another host is to have: its turns end here first, within ``drain_seconds``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def hand_over(self, shards: list[int]) -> None:
        """Let go of shards: finish turns under way, drop the rest, give back what was read."""
        losing, kept = set(shards), self._host.placement.types.leases
        cells = [cell for cell in self._host.cells.values() if cell.shard in losing]
        if kept:
            cells = [cell for cell in cells if (cell.shard, type_of(cell.stream)) not in kept]
        await self._let_go(cells, {mailbox_queue(shard) for shard in shards})

    async def hand_over_types(self, units: list[Unit]) -> None:
        """The same for types in shards of others."""
        losing = set(units)
        cells = [cell for cell in self._host.cells.values() if (cell.shard, type_of(cell.stream)) in losing]
        await self._let_go(cells, {type_mailbox(*unit) for unit in units})

    async def _let_go(self, cells: list[Cell], queues: set[str]) -> None:
        for cell in cells:
            if isinstance(cell, ActorCell):
                cell.leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._host.options.drain_seconds or 0.001):
                while any(cell.busy for cell in cells):
                    await asyncio.sleep(0.005)
        await self.deactivate(cells)
        await self._host.inbox.give_back(queues)

    async def deactivate(self, cells: list[Cell]) -> None:
        """End cells, many at once: each may write a snapshot or clean up, and callers wait for the next owner."""
        rest = iter(cells)

        async def some() -> None:
            for cell in rest:
                try:
                    await cell.deactivate()
                except Exception as error:
                    self._host.log.warning("%s can't be deactivated in good order: %r", cell.stream, error)
                self._host.drop(cell)

        tasks = [self._host.background.spawn(some(), "loom deactivate") for _ in cells[:_AT_ONCE]]
        if tasks:
            await asyncio.wait(tasks)
