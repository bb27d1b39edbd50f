"""Lock managers, each broken in one way."""

from __future__ import annotations

import asyncio

import msgspec

from loom.adapters.memory.lock import InMemoryLockManager
from loom.ports.lock import Lease


class DoesNotFence(InMemoryLockManager):
    """Every lease has the same token: what the lock protects cannot tell a paused holder from the next."""

    def _take(self, name: str, ttl: float) -> Lease | None:
        self._world.tokens[name] = 0
        return super()._take(name, ttl)


class TokensRestartAfterRelease(InMemoryLockManager):
    """Forgets the lock, and with it its token, when it is given back."""

    async def release(self, lease: Lease) -> bool:
        released = await super().release(lease)
        if released:
            del self._world.tokens[lease.name]
        return released


class TokensRestartWithTheProcess(InMemoryLockManager):
    """Counts its tokens in memory while the leases are durable."""

    async def close(self) -> None:
        self._world.tokens.clear()


class AllowsTwoHolders(InMemoryLockManager):
    """Excludes the tasks of one client from one another, and no other client."""

    def _take(self, name: str, ttl: float) -> Lease | None:
        mine: set[str] = self.__dict__.setdefault("mine", set())
        held = self._world.leases.get(name)
        if held is not None and held.holder not in mine:
            del self._world.leases[name]
        lease = super()._take(name, ttl)
        if lease is not None:
            mine.add(lease.holder)
        return lease


class LooksBeforeItTakes(InMemoryLockManager):
    """Reads whether the lock is free, and writes its lease later."""

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        if await self.holder(name) is None:
            await asyncio.sleep(0)
            self._world.leases.pop(name, None)
        return await super().acquire(name, ttl, wait=wait)


class TriesBeforeItTakes(InMemoryLockManager):
    """Grants the lock twice when two try for it at once; those who wait in line are kept apart."""

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        if wait <= 0 and await self.holder(name) is None:
            await asyncio.sleep(0)
            self._world.leases.pop(name, None)
        return await super().acquire(name, ttl, wait=wait)


class CountsTokensBeforeItTakes(InMemoryLockManager):
    """Reads the last token, and takes the lock when another may have had it with the next one in between."""

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        if wait > 0:
            return await super().acquire(name, ttl, wait=wait)
        token = self._world.tokens.get(name, 0)
        for _ in range(4):
            await asyncio.sleep(0)
        lease = await super().acquire(name, ttl)
        if lease is None:
            return None
        self._world.tokens[name] = token + 1
        self._world.leases[name] = msgspec.structs.replace(lease, token=token + 1)
        return self._world.leases[name]


class RenewsOverTheNext(InMemoryLockManager):
    """Finds the lease in order, and writes its new end over whoever has taken the lock since."""

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        renewed = await super().renew(lease, ttl)
        await asyncio.sleep(0)
        self._world.leases[lease.name] = renewed
        return renewed


class LeasesNeverEnd(InMemoryLockManager):
    """Keeps the lock of a dead holder for ever."""

    def _take(self, name: str, ttl: float) -> Lease | None:
        return super()._take(name, ttl + 1e9)


class RenewsWhatIsLost(InMemoryLockManager):
    """Revives a lease that has ended."""

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        held = self._world.leases.get(lease.name)
        if held is not None and held.holder == lease.holder:
            self._world.leases[lease.name] = msgspec.structs.replace(held, expires_at=self._clock.now() + 1.0)
        return await super().renew(lease, ttl)


class ReleasesAnybodysLock(InMemoryLockManager):
    """Gives the lock back by its name, whoever holds it."""

    async def release(self, lease: Lease) -> bool:
        held = self._world.leases.get(lease.name)
        return held is not None and await super().release(held)


class RenewsUnderANewToken(InMemoryLockManager):
    """Its holder's older writes are refused after a renewal."""

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        renewed = await super().renew(lease, ttl)
        self._world.tokens[lease.name] += 1
        return msgspec.structs.replace(renewed, token=self._world.tokens[lease.name])


class IsNotDurable(InMemoryLockManager):
    """Declares that it is, and frees every lock when the process ends."""

    async def close(self) -> None:
        self._world.leases.clear()
