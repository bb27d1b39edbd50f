"""A LockManager that records its calls, and what a lock does when they come one after another."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...errors import LockLostError
from ...ports.lock import Lease, LockManager
from .checker import Model
from .operations import NEVER, UNKNOWN, History, Operation

__all__ = ["LockModel", "LockState", "RecordingLocks"]


class RecordingLocks(LockManager):
    """The client ``name`` of ``locks``, whose calls are noted in ``history``.

    ``holder`` is not: it is for people. ``start`` and ``close`` do nothing, as others may use the locks as well.
    """

    def __init__(self, locks: LockManager, history: History, name: str) -> None:
        self._locks = locks
        self._history = history
        self._name = name

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        with self._history.call(self._name, [name], "acquire", [(ttl, wait)]) as flight:
            lease = await self._locks.acquire(name, ttl, wait=wait)
            flight.answer(lease)
        return lease

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        with self._history.call(self._name, [lease.name], "renew", [(lease, ttl)]) as flight:
            renewed = await self._locks.renew(lease, ttl)
            flight.answer(renewed)
        return renewed

    async def release(self, lease: Lease) -> bool:
        with self._history.call(self._name, [lease.name], "release", [(lease,)]) as flight:
            released = await self._locks.release(lease)
            flight.answer(released)
        return released

    async def holder(self, name: str) -> Lease | None:
        return await self._locks.holder(name)


class LockState(msgspec.Struct, frozen=True):
    """A lock: the ``holder`` of its last lease, empty when that was given back, and the highest token so far.

    The lease ends between ``earliest`` and ``latest``, by the manager's clock: one moment, where an answer said it.
    """

    holder: str = ""
    token: int = 0
    earliest: float = -NEVER
    latest: float = -NEVER


class LockModel(Model[LockState]):
    """The contract of ``LockManager`` for one name.

    Args:
        fencing: whether the tokens of successive leases must grow.
        skew: by how many seconds the manager's clock may differ from the one of the history.

    A lease may be taken for ended as soon as its end can have come while a call was under way. One that was taken by a
    call without an answer belongs to nobody: it may end at any time.
    """

    initial = LockState()

    def __init__(self, *, fencing: bool = True, skew: float = 0.0) -> None:
        self._fencing = fencing
        self._skew = skew

    def step(self, state: LockState, operation: Operation) -> Iterable[LockState]:
        free = not state.holder or state.earliest <= operation.ended + self._skew
        held = bool(state.holder) and state.latest > operation.began - self._skew
        match operation.method, operation.arguments, operation.result:
            case "acquire", _, None:
                return [state] if held else []
            case "acquire", _, Lease() as lease:
                higher = lease.token > state.token or not self._fencing
                return [_until(lease, lease.token)] if free and higher else []
            case "acquire", _, unknown if unknown is UNKNOWN:
                return [LockState("nobody", state.token, -NEVER, NEVER)] if free else []
            case "renew", (lease, _), Lease() as renewed:
                mine = held and state.holder == lease.holder
                same = (renewed.holder, renewed.token) == (lease.holder, lease.token)
                return [_until(renewed, state.token)] if mine and same else []
            case "renew", (lease, _), LockLostError():
                return [state] if free or state.holder != lease.holder else []
            case "renew", (lease, ttl), unknown if unknown is UNKNOWN:
                mine = held and state.holder == lease.holder
                earliest = min(state.earliest, operation.began - self._skew + ttl)
                return [LockState(state.holder, state.token, earliest, NEVER)] if mine else []
            case "release", (lease,), False:
                return [state] if free or state.holder != lease.holder else []
            case "release", (lease,), _:
                return [LockState(token=state.token)] if held and state.holder == lease.holder else []
        return []


def _until(lease: Lease, token: int) -> LockState:
    return LockState(lease.holder, token, lease.expires_at, lease.expires_at)
