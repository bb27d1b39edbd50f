"""A fleet in Redis: members, shards and leaders in one slot, each operation one script."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from loom.clock import Clock, SystemClock
from loom.errors import NotAMemberError
from loom.ports import CoordinationAdapter, Member, ShardLease, TypeLease
from loom.ports.port import check_key

from .adapter import RedisAdapter
from .channel import Argument
from .client import Redis
from .scripts import load_script

__all__ = ["RedisCoordinationAdapter"]

_SCRIPT = load_script("coordination")
_READ = load_script("coordination", writes=False)
_READING = frozenset({"members", "owners"})
_KEYS = ("settings", "members", "seen", "shards", "types", "leaders")
_SHARDS_AT_ONCE = 2000
"""Shards a script: more than any fleet has, fewer than Lua's ``unpack`` takes."""

Units = Iterable[tuple[int, str]]


class RedisCoordinationAdapter(RedisAdapter, CoordinationAdapter):
    """Coordination of a fleet. Members live by heartbeats within ``member_ttl``, by the server's time.

    Every operation is one script and so atomic: of members that race for a shard one gets it. Epochs are kept as long
    as the server's data. ``owners`` is answered by a few bytes while nothing changes. Closing leaves the members as
    they are: they live until their time is over.
    """

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        """Time is the server's, unless ``clock`` is another than the system's."""
        super().__init__(redis, clock=clock)
        self._clock = clock or SystemClock()
        self._own_time = not isinstance(self._clock, SystemClock)
        self.member_ttl = redis.options.member_ttl
        self._keys = [redis.key("fleet", "fleet", part) for part in _KEYS]
        self._client = secrets.token_hex(8)
        self._calls = 0
        self._seen_change: bytes | None = None
        self._owners: dict[int, ShardLease] = {}

    async def shard_count(self, wanted: int) -> int:
        if wanted < 0:
            raise ValueError(f"shard_count({wanted}): a fleet has at least one shard; 0 only asks")
        return int(await self._run("shard_count", "", wanted))

    async def join(self, member: Member) -> None:
        check_key("member id", member.id)
        await self._run("join", member.id, msgspec.json.encode(member))

    async def heartbeat(self, member_id: str) -> None:
        await self._run_as_member("heartbeat", member_id)

    async def leave(self, member_id: str) -> None:
        check_key("member id", member_id)
        await self._run("leave", member_id)

    async def members(self) -> list[Member]:
        found = [msgspec.json.decode(record, type=Member) for record in await self._run("members", "")]
        return sorted(found, key=lambda member: member.id)

    async def claim(self, member_id: str, shards: Sequence[int]) -> list[ShardLease]:
        wanted = sorted(set(shards))
        if wanted and wanted[0] < 0:
            raise ValueError(f"claim: shard {wanted[0]} is negative")
        leases: list[ShardLease] = []
        for start in range(0, max(1, len(wanted)), _SHARDS_AT_ONCE):
            mine, apart = await self._run_as_member("claim", member_id, *wanted[start : start + _SHARDS_AT_ONCE])
            types = _types_by_shard(apart)
            for shard, epoch in zip(map(int, mine[::2]), map(int, mine[1::2]), strict=True):
                leases.append(ShardLease(shard, member_id, epoch, types.get(shard, ())))
        return leases

    async def release(self, member_id: str, shards: Iterable[int]) -> None:
        check_key("member id", member_id)
        wanted = sorted(set(shards))
        for start in range(0, len(wanted), _SHARDS_AT_ONCE):
            await self._run("release", member_id, *wanted[start : start + _SHARDS_AT_ONCE])

    async def owners(self) -> dict[int, ShardLease]:
        known = b"never asked" if self._seen_change is None else self._seen_change
        reply = await self._run("owners", "", known)
        if reply is not None:
            change, shards, apart = reply
            types = _types_by_shard(apart)
            owned = {}
            for field, text in zip(shards[::2], shards[1::2], strict=True):
                epoch, owner = _parse(text)
                if owner:
                    owned[int(field)] = ShardLease(int(field), owner, epoch, types.get(int(field), ()))
            self._seen_change, self._owners = change, dict(sorted(owned.items()))
        return dict(self._owners)

    async def set_apart(self, member_id: str, units: Units) -> list[TypeLease]:
        check_key("member id", member_id)
        wanted = sorted(set(units))
        return _leases(wanted, await self._run("set_apart", member_id, *_flat(wanted)))

    async def claim_types(self, member_id: str, units: Units) -> list[TypeLease]:
        wanted = sorted(set(units))
        return _leases(wanted, await self._run_as_member("claim_types", member_id, *_flat(wanted)))

    async def release_types(self, member_id: str, units: Units) -> None:
        check_key("member id", member_id)
        await self._run("release_types", member_id, *_flat(sorted(set(units))))

    async def reunite(self, member_id: str, units: Units) -> dict[int, int]:
        check_key("member id", member_id)
        wanted = sorted(set(units))
        # Not repeatable: once done, a second try would find nothing to reunite and tell no epochs.
        epochs = await self._run("reunite", member_id, *_flat(wanted), repeatable=False)
        return {shard: int(epoch) for (shard, _), epoch in zip(wanted, epochs, strict=True) if epoch is not None}

    async def lead(self, role: str, member_id: str) -> bool:
        check_key("role", role)
        return bool(await self._run_as_member("lead", member_id, role))

    async def _run_as_member(self, operation: str, member_id: str, *arguments: Argument) -> Any:
        check_key("member id", member_id)
        reply = await self._run(operation, member_id, *arguments)
        if reply is None:
            raise NotAMemberError(
                f"{member_id} is not a living member of this fleet; it owns nothing now: join again before anything "
                "else",
                member=member_id,
            )
        return reply

    async def _run(self, operation: str, member_id: str, *arguments: Argument, repeatable: bool = True) -> Any:
        self._calls += 1
        now = repr(self._clock.now()) if self._own_time else ""
        script = _READ if operation in _READING else _SCRIPT
        given = [operation, now, repr(float(self.member_ttl)), f"{self._client}:{self._calls}", member_id, *arguments]
        return await self._redis.run(script, self._keys, given, repeatable=repeatable)


def _parse(text: bytes) -> tuple[int, str]:
    epoch, _, owner = text.partition(b":")
    return int(epoch), owner.decode()


def _types_by_shard(apart: Sequence[bytes]) -> dict[int, tuple[TypeLease, ...]]:
    found: dict[int, list[TypeLease]] = {}
    for unit, text in zip(apart[::2], apart[1::2], strict=True):
        shard, _, name = unit.partition(b" ")
        epoch, owner = _parse(text)
        found.setdefault(int(shard), []).append(TypeLease(int(shard), name.decode(), owner, epoch))
    return {shard: tuple(sorted(leases, key=lambda lease: lease.type)) for shard, leases in found.items()}


def _flat(units: Sequence[tuple[int, str]]) -> list[Argument]:
    return [part for unit in units for part in unit]


def _leases(units: Sequence[tuple[int, str]], texts: Sequence[bytes | None]) -> list[TypeLease]:
    leases = []
    for (shard, name), text in zip(units, texts, strict=True):
        if text is not None:
            epoch, owner = _parse(text)
            leases.append(TypeLease(shard, name, owner, epoch))
    return leases
