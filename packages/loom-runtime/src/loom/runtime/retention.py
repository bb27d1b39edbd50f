"""Retention: lines of ended runs leave the list of runs after a while. Their journals stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Retention"]

_SHARDS = 16
"""How many shards one sweep looks at."""
_BATCH = 100
"""How many lines of a shard go in one sweep."""
_SHORTEST, _LONGEST = 60.0, 3600.0
"""Seconds between two rounds over all shards: a hundredth of the retention, within these."""


class Retention:
    """Sweeps the shards that this host owns, some at a time, in rounds: where nothing is old, a look costs as well."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._left: list[int] = []
        self._round_at = 0.0

    @property
    def due(self) -> bool:
        """Whether a round is under way, or it is time for one."""
        return bool(self._left) or self._host.clock.monotonic() >= self._round_at

    async def sweep(self) -> int:
        """Remove lines of runs that ended more than ``run_retention`` seconds ago, in the next shards; how many."""
        host, retention = self._host, self._host.options.run_retention
        if not self._left:
            self._left = sorted(host.placement.epochs)
            self._round_at = host.clock.monotonic() + min(_LONGEST, max(_SHORTEST, retention / 100))
        removed, before = 0, host.clock.now() - retention
        turn, self._left = self._left[:_SHARDS], self._left[_SHARDS:]
        for shard in turn:
            if host.placement.owns(shard):
                gone = await host.pending.forget_ended(shard, before, _BATCH)
                removed += gone
                if gone >= _BATCH:
                    self._left.append(shard)  # there may be more, for a later sweep
        return removed
