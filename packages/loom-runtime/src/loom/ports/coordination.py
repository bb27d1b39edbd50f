"""CoordinationAdapter: who is in the fleet, who owns which shard, who leads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from .port import Port

__all__ = ["CoordinationAdapter", "Member", "ShardLease", "TypeLease", "clocks_apart"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A host. ``serves`` are the types that it has code for, as streams begin with them: ``actor/TYPE`` and
    ``run/WORKFLOW``; ``started_at`` is Unix time.
    """

    id: str
    serves: tuple[str, ...] = ()
    host: str = ""
    pid: int = 0
    version: str = ""
    started_at: float = 0.0
    draining: bool = False


class TypeLease(msgspec.Struct, frozen=True):
    """Who has the streams of one type in a shard instead of the shard's owner; ``owner`` is empty when nobody has.

    Its ``epoch`` is higher than every other that the shard and its types have had before.
    """

    shard: int
    type: str
    owner: str
    epoch: int


class ShardLease(msgspec.Struct, frozen=True):
    """A shard's owner. ``epoch`` grows with every change of owner: it is the fence of the owner's appends.

    ``types`` are those that are set apart: none, where every host serves the same.
    """

    shard: int
    owner: str
    epoch: int
    types: tuple[TypeLease, ...] = ()


class CoordinationAdapter(Port):
    """Membership, shard ownership and leadership.

    Ownership makes the fleet fast, not correct: a paused owner may believe in a shard that another has taken. The
    journal's compare-and-append decides.
    """

    member_ttl: float = 10.0
    """Seconds without a heartbeat after which a member counts as dead.
    Adapters with a better sign of life may be quicker.
    """

    @abstractmethod
    async def shard_count(self, wanted: int) -> int:
        """Store ``wanted`` as the fleet's number of shards if none is stored, and return the stored number.

        With ``wanted`` 0 only ask: nothing is stored, and 0 is returned where no host has ever started.
        """

    @abstractmethod
    async def join(self, member: Member) -> None:
        """Enter the fleet, or replace one's own record (to change ``serves`` or ``draining``)."""

    @abstractmethod
    async def heartbeat(self, member_id: str) -> None:
        """Stay alive for another ``member_ttl``. Raises NotAMemberError when one had been declared dead:
        own nothing.
        """

    @abstractmethod
    async def leave(self, member_id: str) -> None:
        """Leave the fleet and release every shard and leadership one held. Harmless when repeated."""

    @abstractmethod
    async def members(self) -> list[Member]:
        """The members alive now, in the order of their ids."""

    async def last_seen(self) -> dict[str, float]:
        """When each living member last gave a sign of life, in Unix time by that member's own clock.

        For comparing clocks. Members of whom that is not known are left out; an adapter that knows of nobody returns
        nothing, as this does.
        """
        return {}

    @abstractmethod
    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        """Take those of ``shards`` that are free, or whose owner is dead; keep those one has. Returns what one now
        owns of them.

        A shard's epoch grows when it changes hands and only then. Raises NotAMemberError.
        """

    @abstractmethod
    async def release(self, member_id: str, shards: Iterable[int]) -> None:
        """Free shards that one owns; others are left alone."""

    @abstractmethod
    async def owners(self) -> dict[int, ShardLease]:
        """Every owned shard. A lease whose owner has died is listed until somebody claims the shard."""

    async def set_apart(self, member_id: str, units: Iterable[tuple[int, str]]) -> list[TypeLease]:
        """Set types apart, as the owner of their shards that has no code for them: somebody else may claim them.

        Returns the leases of those that are set apart now; one in a shard that ``member_id`` does not own is left out.
        A fleet whose adapter returns nothing, as this does, must serve the same types on every host.
        """
        return []

    async def claim_types(self, member_id: str, units: Iterable[tuple[int, str]]) -> list[TypeLease]:
        """Take types in shards, setting them apart if need be; returns what one now has of them.

        Refused, and left out: a type that another living member has, and one that the living owner of the shard
        serves. The owner of the shard itself gets what is set apart already. Raises NotAMemberError.
        """
        return []

    async def release_types(self, member_id: str, units: Iterable[tuple[int, str]]) -> None:
        """Give back types that one has; they stay set apart. Others are left alone."""
        return

    async def reunite(self, member_id: str, units: Iterable[tuple[int, str]]) -> dict[int, int]:
        """End that types are set apart, as the owner of their shards who has claimed them too.

        Returns the new epochs of the shards in which that was done: higher than those that the types had.
        """
        return {}

    @abstractmethod
    async def lead(self, role: str, member_id: str) -> bool:
        """Whether ``member_id`` is now the leader of ``role``:
        becomes it when there is none, or when that one is dead.
        """


def clocks_apart(seen: Mapping[str, float], now: float, *, tolerance: float = 1.0) -> dict[str, float]:
    """Members whose clocks are certainly ahead of the one that says ``now`` (Unix time), and by how many seconds.

    ``seen`` is what ``last_seen`` gave just before: a sign of life can't come from the future. A clock may be ahead by
    more than that. One that is behind looks like an old sign of life; it shows on its own host, for which others are
    ahead.
    """
    return {name: at - now for name, at in sorted(seen.items()) if at - now > tolerance}
