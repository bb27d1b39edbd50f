"""Locks in the memory of this process."""

from __future__ import annotations

import asyncio
import secrets
from typing import Self

import msgspec

from ...clock import Clock, SystemClock
from ...errors import LockLostError
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.lock import Lease, LockManager
from ...ports.port import check_key
from ..waiting import WaitingLines, wait_for_either
from .ephemeral import warn_if_production

__all__ = ["InMemoryLockManager"]


class _World:
    """The data, apart from the adapter: several adapters may show one world. Tokens outlive their leases."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.tokens: dict[str, int] = {}
        self.lines = WaitingLines()
        self.released: dict[str, asyncio.Future[None]] = {}


class InMemoryLockManager(LockManager):
    """A LockManager for the tasks of one process and event loop."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        warn_if_production(type(self).__name__)
        self._clock = clock or SystemClock()
        self._world = _World()

    @classmethod
    def sharing(cls, other: InMemoryLockManager) -> Self:
        """Another client of the data of ``other``."""
        manager = cls(clock=other._clock)
        manager._world = other._world
        return manager

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        manager = cls(clock=context.clock)
        manager._world = context.shared(f"memory:locks:{url.host}{url.path}", _World)
        return manager

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        _check(name, ttl)
        deadline = self._clock.monotonic() + wait
        if not self._world.lines.waiting(name) and (lease := self._take(name, ttl)) is not None:
            return lease
        if wait <= 0:
            return None
        async with self._world.lines.turn(self._clock, name, wait) as in_front:
            while in_front:
                lease = self._take(name, ttl)
                left = deadline - self._clock.monotonic()
                if lease is not None or left <= 0:
                    return lease
                expires_in = self._world.leases[name].expires_at - self._clock.now()
                released = self._world.released[name] = asyncio.get_running_loop().create_future()
                await wait_for_either(self._clock, released, min(left, expires_in))
        return None

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        _check(lease.name, ttl)
        if not self._holds(lease):
            raise LockLostError(
                f"the lock {lease.name} is no longer held under token {lease.token}; stop what it protects",
                name=lease.name,
                token=lease.token,
            )
        renewed = msgspec.structs.replace(lease, expires_at=self._clock.now() + ttl)
        self._world.leases[lease.name] = renewed
        return renewed

    async def release(self, lease: Lease) -> bool:
        check_key("lock name", lease.name)
        if not self._holds(lease):
            return False
        del self._world.leases[lease.name]
        waiter = self._world.released.pop(lease.name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return True

    async def holder(self, name: str) -> Lease | None:
        check_key("lock name", name)
        lease = self._world.leases.get(name)
        return lease if lease is not None and lease.expires_at > self._clock.now() else None

    def _take(self, name: str, ttl: float) -> Lease | None:
        held = self._world.leases.get(name)
        now = self._clock.now()
        if held is not None and held.expires_at > now:
            return None
        token = self._world.tokens[name] = self._world.tokens.get(name, 0) + 1
        lease = self._world.leases[name] = Lease(name, token, secrets.token_hex(12), now + ttl)
        return lease

    def _holds(self, lease: Lease) -> bool:
        held = self._world.leases.get(lease.name)
        return held is not None and held.holder == lease.holder and held.expires_at > self._clock.now()


def _check(name: str, ttl: float) -> None:
    check_key("lock name", name)
    if not ttl > 0:
        raise ValueError(f"ttl={ttl}: a lease lasts more than 0 seconds")
