"""Types apart: what a shard's owner has no code for belongs to a host that has, under a lease of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from ..errors import NotAMemberError
from ..ports import CoordinationAdapter, Member, ShardLease, TypeLease
from .background import Background
from .rendezvous import preferred_owner

__all__ = ["TypesApart", "Unit"]

Unit = tuple[int, str]
"""A type in a shard: the shard, and how the streams of the type begin, such as ``actor/Account``."""

Hook = Callable[[list[Unit]], Awaitable[None]]


class TypesApart:
    """The types that are set apart, in shards of this host (``apart``) and for this host to run (``leases``).

    Both are empty while every host serves the same. What is in ``apart`` goes through the mailbox of its unit, also
    when this host has the lease itself, until that mailbox is empty and the unit is reunited with its shard: so
    requests keep their order when the code comes to the shard.

    ``on_gained`` is awaited with new units, ``on_losing`` before units are given back, ``on_at_home`` with units that
    this host has together with their shards.
    """

    def __init__(self, coordination: CoordinationAdapter, member: Member, background: Background) -> None:
        self._coordination = coordination
        self._member = member
        self._background = background
        self.leases: dict[Unit, int] = {}
        self.apart: set[Unit] = set()
        self.leaving: set[Unit] = set()
        self.known: set[str] = set(member.serves)
        self.served: frozenset[str] = frozenset(member.serves)
        self._unrecovered: set[Unit] = set()
        self._servers: dict[str, list[str]] = {}
        self._preferred: dict[Unit, bool] = {}
        self.on_gained: Hook | None = None
        self.on_losing: Hook | None = None
        self.on_at_home: Hook | None = None

    async def balance(self, members: Sequence[Member]) -> None:
        """Claim and give back, given the living members, until each unit is where its code is."""
        living = {member.id: frozenset(member.serves) for member in members}
        self.served = frozenset[str]().union(*living.values())
        self.known |= self.served
        uncommon = {name for name in self._member.serves if any(name not in serves for serves in living.values())}
        if not (uncommon or self.leases or self.apart):
            return
        self._notice_servers(living, uncommon)
        wanted = self._wanted(living, await self._coordination.owners(), uncommon)
        surplus = [unit for unit in self.leases if unit not in wanted]
        if surplus:
            await self.lose(surplus, release=True)
        missing = sorted(wanted - self.leases.keys())
        if missing:
            gained = _epochs(await self._coordination.claim_types(self._member.id, missing))
            # Held before recovery, so that what recovery finds can be activated.
            self.leases.update(gained)
            self._unrecovered.update(gained)
        self._unrecovered &= self.leases.keys()
        if self._unrecovered:
            gained_now = sorted(self._unrecovered)
            if self.on_gained is not None:
                await self.on_gained(gained_now)
            self._unrecovered.difference_update(gained_now)
        at_home = sorted(self.apart & self.leases.keys())
        if at_home and self.on_at_home is not None:
            await self.on_at_home(at_home)

    def own(self, leases: Iterable[ShardLease]) -> None:
        """Shards are this host's now: what is set apart in them does not come with them."""
        self.apart.update((lease.shard, found.type) for lease in leases for found in lease.types)

    def disown(self, shards: Iterable[int]) -> None:
        """Shards are not this host's any more."""
        if self.apart:
            gone = set(shards)
            self.apart = {unit for unit in self.apart if unit[0] not in gone}

    async def set_apart(self, units: Iterable[Unit]) -> None:
        """Set types apart that this host has no code for, in those of the shards that are its own."""
        missing = {unit for unit in units if unit not in self.apart}
        if missing:
            self.apart.update(_epochs(await self._coordination.set_apart(self._member.id, sorted(missing))))

    async def reunite(self, units: Sequence[Unit]) -> dict[int, int]:
        """End that units are apart whose shards this host owns as well; the shards' new epochs."""
        epochs = await self._coordination.reunite(self._member.id, units)
        for unit in units:
            if unit[0] in epochs:
                self.apart.discard(unit)
                self.leases.pop(unit, None)
        return epochs

    async def reread(self) -> None:
        """After a conflict: learn which units are still this host's."""
        if not self.leases:
            return
        try:
            kept = _epochs(await self._coordination.claim_types(self._member.id, list(self.leases)))
        except NotAMemberError:
            kept = {}
        lost = [unit for unit in self.leases if unit not in kept]
        self.leases.update(kept)
        if lost:
            self._background.spawn(self.lose(lost, release=False), "loom lost types")

    async def lose(self, units: list[Unit], *, release: bool) -> None:
        """Hand units over: like a shard, each keeps its epoch until its last turn has committed under it."""
        self.leaving.update(units)
        try:
            if not release:
                self._forget(units)
            if self.on_losing is not None:
                await self.on_losing(units)
            self._forget(units)
        finally:
            self.leaving.difference_update(units)
        if release:
            await self._coordination.release_types(self._member.id, units)

    def clear(self) -> None:
        """Forget everything: the host leaves."""
        self.leases.clear()
        self.apart.clear()

    def _forget(self, units: Iterable[Unit]) -> None:
        for unit in units:
            self.leases.pop(unit, None)

    def _notice_servers(self, living: dict[str, frozenset[str]], uncommon: set[str]) -> None:
        servers = {name: sorted(id for id, serves in living.items() if name in serves) for name in uncommon}
        if servers != self._servers:
            self._servers = servers
            self._preferred.clear()

    def _wanted(
        self, living: dict[str, frozenset[str]], owners: dict[int, ShardLease], uncommon: set[str]
    ) -> set[Unit]:
        me = self._member.id
        # Where nobody owns the shard just now, who comes next decides.
        wanted = {unit for unit in self.leases if unit[0] not in owners or owners[unit[0]].owner not in living}
        for shard, lease in owners.items():
            if lease.owner == me:
                wanted.update((shard, found.type) for found in lease.types if found.type in living[me])
            elif lease.owner in living:
                there = living[lease.owner]
                wanted.update((shard, name) for name in uncommon if name not in there and self._is_mine(shard, name))
        return wanted

    def _is_mine(self, shard: int, name: str) -> bool:
        unit = (shard, name)
        found = self._preferred.get(unit)
        if found is None:
            found = self._preferred[unit] = preferred_owner(shard, self._servers[name]) == self._member.id
        return found


def _epochs(leases: Iterable[TypeLease]) -> dict[Unit, int]:
    return {(lease.shard, lease.type): lease.epoch for lease in leases}
