"""Placement: which shards this host owns, and who should own which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

from ..clock import Clock
from ..errors import NotAMemberError, ShardCountError
from ..ports import CoordinationAdapter, Member, clocks_apart
from .background import Background
from .messages import type_of
from .rendezvous import preferred_owner
from .types_apart import TypesApart, Unit

__all__ = ["Placement"]

_log = logging.getLogger("loom.placement")
_COMPARE = 60.0
"""Seconds between two looks at the clocks of others."""


class Placement:
    """Joins the fleet, keeps this member alive, and takes and gives shards until each is where it should be.

    ``on_gained`` is awaited with new shards before they count as owned; ``on_losing`` before they are released.
    What shards' owners have no code for is the matter of ``types``.
    """

    def __init__(
        self, coordination: CoordinationAdapter, member: Member, shards: int, clock: Clock, background: Background,
    ) -> None:  # fmt: skip
        self._coordination = coordination
        self.member = member
        self.shards = shards
        self._clock = clock
        self._background = background
        self.epochs: dict[int, int] = {}
        self.types = TypesApart(coordination, member, background)
        self._members = 1
        self._seen_at = clock.monotonic()
        self._unrecovered: set[int] = set()
        self._balancing: asyncio.Task[None] | None = None
        self._leaving: set[int] = set()
        self._compare_at = 0.0
        self._ahead: set[str] = set()
        self._stopping = False
        self.on_gained: Callable[[list[int]], Awaitable[None]] | None = None
        self.on_losing: Callable[[list[int]], Awaitable[None]] | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join and take the shards that are free and ours. Raises ShardCountError when the fleet has another number."""
        stored = await self._coordination.shard_count(self.shards)
        if stored != self.shards:
            raise ShardCountError(
                f"this fleet was started with {stored} shards and this host is set to {self.shards}; "
                f"set shards = {stored} in loom.toml, or use another database",
                stored=stored,
                wanted=self.shards,
            )
        await self._coordination.join(self.member)
        await self._balance()
        self._loop = self._background.spawn(self._run(), "loom placement")

    async def stop(self) -> None:
        """Stop balancing; what is owned stays owned, and this member alive, until ``leave``."""
        self._stopping = True
        if self._balancing is not None:
            self._balancing.cancel()
            await asyncio.wait([self._balancing])
            self._balancing = None

    async def leave(self) -> None:
        """Release everything and leave the fleet."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
            self._loop = None
        self.epochs.clear()
        self.types.clear()
        await self._coordination.leave(self.member.id)

    @property
    def alone(self) -> bool:
        """Whether this host is the whole fleet, and has been heard of lately: a host that was paused can't know."""
        return self._members == 1 and self._clock.monotonic() - self._seen_at < self._coordination.member_ttl

    def owned(self) -> Collection[int]:
        """The shards that ``owns`` says this host has, now."""
        return self.epochs if not self._leaving else [shard for shard in self.epochs if shard not in self._leaving]

    def owns(self, shard: int) -> bool:
        """Whether this host believes that the shard is its own, and is not handing it over."""
        return shard in self.epochs and shard not in self._leaving

    def has(self, stream: str, shard: int, *, leaving: bool = False) -> bool:
        """Whether the stream, which is in ``shard``, is this host's; with ``leaving`` also while it is handed over."""
        types = self.types
        if types.leases or types.apart:
            unit = (shard, type_of(stream))
            if unit in types.leases:
                return leaving or unit not in types.leaving
            if unit in types.apart:
                return False
        return shard in self.epochs and (leaving or shard not in self._leaving)

    def fence(self, stream: str, shard: int) -> int:
        """The fence of appends to the stream; 0 when it is not this host's."""
        if self.types.leases:
            epoch = self.types.leases.get((shard, type_of(stream)))
            if epoch is not None:
                return epoch
        return self.epochs.get(shard, 0)

    async def reunite(self, units: Sequence[Unit]) -> None:
        """Let shards of this host have types again that were set apart and that it has the leases of."""
        self.epochs.update(await self.types.reunite(units))

    async def reread(self) -> None:
        """After a conflict: learn from the store what is still ours, before anything is activated again."""
        await self.types.reread()
        owners = await self._coordination.owners()
        lost = []
        for shard in list(self.epochs):
            lease = owners.get(shard)
            if lease is None or lease.owner != self.member.id:
                lost.append(shard)
            else:
                self.epochs[shard] = lease.epoch
                self.types.own([lease])
        if lost:
            # Not awaited: it waits for turns under way, and the one that met the conflict is among them.
            self._background.spawn(self._lose(lost, release=False), "loom lost shards")
            await asyncio.sleep(0)

    async def _run(self) -> None:
        beat = max(0.2, min(1.0, self._coordination.member_ttl / 5))
        while True:
            await self._clock.sleep(beat)
            try:
                await self._coordination.heartbeat(self.member.id)
                self._seen_at = self._clock.monotonic()
                if self._members > 1 and self._seen_at >= self._compare_at:
                    self._compare_at = self._seen_at + _COMPARE
                    await self._compare_clocks()
                # Beside the heartbeats: handing over waits for turns, and a host must not be taken for dead meanwhile.
                if not self._stopping and (self._balancing is None or self._balancing.done()):
                    self._balancing = self._background.spawn(self._balance_again(), "loom balance")
            except NotAMemberError:
                await self._rejoin()
                if self._stopping:
                    return
            except Exception as error:
                _log.warning("loom: the fleet can't be reached: %s", error)

    async def _compare_clocks(self) -> None:
        """Say once of each member that its clock is ahead; whose is behind, hears it of itself from the others."""
        ahead = clocks_apart(await self._coordination.last_seen(), self._clock.now())
        for member, seconds in ahead.items():
            if member not in self._ahead:
                _log.warning(
                    "loom: the clock of %s is at least %.1f s ahead of this host's (%s); timers fire early or late, "
                    "and a host may be taken for dead: let NTP keep the clocks", member, seconds, self.member.id,
                )  # fmt: skip
        self._ahead = set(ahead)

    async def _balance_again(self) -> None:
        try:
            await self._balance()
        except NotAMemberError:
            pass  # the next heartbeat says so too
        except Exception as error:
            _log.warning("loom: shards can't be balanced: %s", error)

    async def _rejoin(self) -> None:
        _log.warning("loom: %s was declared dead and gives up its shards", self.member.id)
        if self._balancing is not None:
            self._balancing.cancel()
            await asyncio.wait([self._balancing])
            self._balancing = None
        await self.types.lose(list(self.types.leases), release=False)
        await self._lose(list(self.epochs), release=False)
        if not self._stopping:
            await self._coordination.join(self.member)

    async def _balance(self) -> None:
        members = [member for member in await self._coordination.members() if not member.draining]
        if all(member.id != self.member.id for member in members):
            members.append(self.member)
        await self._balance_shards([member.id for member in members])
        await self.types.balance(members)

    async def _balance_shards(self, members: list[str]) -> None:
        self._members = len(members)
        if self._members == 1:
            if len(self.epochs) == self.shards and not self._unrecovered:
                return
            mine = set(range(self.shards))
        else:
            mine = {s for s in range(self.shards) if preferred_owner(s, members) == self.member.id}
        surplus = [shard for shard in self.epochs if shard not in mine]
        if surplus:
            await self._lose(surplus, release=True)
        missing = sorted(mine - self.epochs.keys())
        if missing:
            leases = await self._coordination.claim(self.member.id, missing)
            gained = {lease.shard: lease.epoch for lease in leases}
            # Owned before recovery, so that what recovery finds can be activated.
            self.types.own(leases)
            self.epochs.update(gained)
            self._unrecovered.update(gained)
        self._unrecovered &= self.epochs.keys()
        if self._unrecovered:
            gained_now = sorted(self._unrecovered)
            if self.on_gained is not None:
                await self.on_gained(gained_now)
            self._unrecovered.difference_update(gained_now)

    async def _lose(self, shards: list[int], *, release: bool) -> None:
        # A shard that is handed over keeps its epoch until its last turn has committed under it.
        self._leaving.update(shards)
        try:
            if not release:
                self._forget(shards)
            if self.on_losing is not None:
                await self.on_losing(shards)
            self._forget(shards)
        finally:
            self._leaving.difference_update(shards)
        if release:
            await self._coordination.release(self.member.id, shards)

    def _forget(self, shards: list[int]) -> None:
        self.types.disown(shards)
        for shard in shards:
            self.epochs.pop(shard, None)
