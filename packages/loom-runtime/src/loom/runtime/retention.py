"""Retention: lines of ended runs leave the list of runs after a while. Their journals stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Retention"]

_SHARDS = 16
"""How many shards one sweep looks at: all 256 have their turn within a minute and a half."""
_BATCH = 100
"""How many lines of a shard go in one sweep."""


class Retention:
    """Sweeps the shards that this host owns, some at a time, in the order of their numbers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._next = 0

    async def sweep(self) -> int:
        """Remove lines of runs that ended more than ``run_retention`` seconds ago; how many."""
        host = self._host
        owned = sorted(shard for shard in host.placement.epochs if host.placement.owns(shard))
        turn = [shard for shard in owned if shard >= self._next][:_SHARDS] or owned[:_SHARDS]
        before, removed = host.clock.now() - host.options.run_retention, 0
        for shard in turn:
            removed += await host.pending.forget_ended(shard, before, _BATCH)
            self._next = shard + 1
        return removed
