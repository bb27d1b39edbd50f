"""Locks in Cosmos DB."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Awaitable, Callable

import msgspec

from loom.adapters.waiting import WaitingLines, wait_for_either
from loom.clock import Clock
from loom.errors import LockError, LockLostError, PortError, StoreUnavailableError
from loom.ports.lock import Lease, LockManager
from loom.ports.port import check_key

from .adapter import CosmosAdapter
from .client import Cosmos, Item, create, replace
from .containers import LOCKS
from .failures import Refused
from .names import partition_key

__all__ = ["CosmosLockManager"]

_ATTEMPTS = 100
_ID = "lock"
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class CosmosLockManager(CosmosAdapter, LockManager):
    """A LockManager in one container: an item for each name, replaced by compare-and-set on its ETag.

    The token is in the item and goes up with each lease; a released lock keeps its item, so that tokens go on. Time
    is that of ``clock``: hosts whose clocks differ by more than a lease take it from each other early, which the
    token shows to whatever it protects.

    Cosmos has no notification to wait for. Waiters of one manager stand in a line, and the first of them looks again
    after pauses that grow from 20 ms to a second, at the end of the lease, and at once when a lease is released by
    this manager. A waiter on another host may so get the lock up to a second late, and waiting costs a request a look.
    """

    container = LOCKS

    def __init__(self, cosmos: Cosmos, *, clock: Clock | None = None) -> None:
        super().__init__(cosmos, clock=clock)
        self._lines = WaitingLines()
        self._released: dict[str, asyncio.Future[None]] = {}
        self._abandoned: set[asyncio.Task[None]] = set()

    async def _drain(self) -> None:
        await asyncio.gather(*self._abandoned, return_exceptions=True)

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        _check(name, ttl)
        deadline = self._clock.monotonic() + wait
        if not self._lines.waiting(name):
            lease, _ = await self._try(name, ttl)
            if lease is not None:
                return lease
        if wait <= 0:
            return None
        async with self._lines.turn(self._clock, name, deadline - self._clock.monotonic()) as in_front:
            pause = _FIRST_PAUSE
            while in_front:
                # Listening begins before looking, or a release in between would go unheard.
                released = self._released[name] = asyncio.get_running_loop().create_future()
                lease, held = await self._try(name, ttl)
                left = deadline - self._clock.monotonic()
                if lease is not None or left <= 0:
                    return lease
                ends_in = left if held is None else held.expires_at - self._clock.now()
                await self._wait(released, pause * random.uniform(0.5, 1.0), min(left, ends_in))
                pause = min(pause * 2, _LONGEST_PAUSE)
        return None

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        _check(lease.name, ttl)
        renewed = await self._change(lease, lambda: self._clock.now() + ttl)
        if renewed is None:
            raise LockLostError(
                f"the lock {lease.name} is no longer held under token {lease.token}; stop what it protects",
                name=lease.name,
                token=lease.token,
            )
        return renewed

    async def release(self, lease: Lease) -> bool:
        check_key("lock name", lease.name)
        released = await self._change(lease, lambda: 0.0)
        waiter = self._released.pop(lease.name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return released is not None

    async def holder(self, name: str) -> Lease | None:
        check_key("lock name", name)
        return self._held(name, await self._read(name))

    async def _try(self, name: str, ttl: float) -> tuple[Lease | None, Lease | None]:
        """Take the lock, or show who has it. A caller that goes away meanwhile leaves nothing taken."""
        taking = asyncio.ensure_future(self._take(name, ttl))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            task = asyncio.ensure_future(self._abandon(taking))
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            raise

    async def _abandon(self, taking: Awaitable[tuple[Lease | None, Lease | None]]) -> None:
        with contextlib.suppress(PortError):  # then it ends by itself
            lease, _ = await taking
            if lease is not None:
                await self.release(lease)

    async def _take(self, name: str, ttl: float) -> tuple[Lease | None, Lease | None]:
        holder, lost = secrets.token_hex(12), 0
        for _ in range(_ATTEMPTS):
            item = await self._read(name)
            held = self._held(name, item)
            if held is not None:
                return (held, None) if held.holder == holder else (None, held)
            lease = Lease(name, 1 if item is None else int(item["token"]) + 1, holder, self._clock.now() + ttl)
            try:
                if await self._write(lease, item):
                    return lease, None
            except StoreUnavailableError as error:
                lost += 1
                if not error.unknown or lost > 3:
                    raise
        raise _contended(name)

    async def _change(self, lease: Lease, ends_at: Callable[[], float]) -> Lease | None:
        """Move the end of a lease that still holds; None where it does not."""
        lost = 0
        for _ in range(_ATTEMPTS):
            item = await self._read(lease.name)
            held = self._held(lease.name, item)
            if held is None or held.holder != lease.holder:
                # After an answer that was lost: a lock of ours that nobody holds is one that we have released.
                mine = lost and item is not None and item["holder"] == lease.holder
                return lease if mine and item is not None and item["expires_at"] == 0 else None
            changed = msgspec.structs.replace(held, expires_at=float(ends_at()))
            try:
                if await self._write(changed, item):
                    return changed
            except StoreUnavailableError as error:
                lost += 1
                if not error.unknown or lost > 3:
                    raise
        raise _contended(lease.name)

    async def _read(self, name: str) -> Item | None:
        return await self._cosmos.read(LOCKS, self._pk(name), _ID)

    async def _write(self, lease: Lease, found: Item | None) -> bool:
        item: Item = {
            "id": _ID,
            "pk": self._pk(lease.name),
            "name": lease.name,
            "token": lease.token,
            "holder": lease.holder,
            "expires_at": lease.expires_at,
        }
        try:
            await self._cosmos.write(
                LOCKS, item["pk"], [create(item) if found is None else replace(item, found["_etag"])]
            )
        except Refused:
            return False
        return True

    async def _wait(self, released: asyncio.Future[None], pause: float, seconds: float) -> None:
        """Until a release by this manager, the pause (real time: the other hosts' too), or ``seconds`` of the clock."""

        async def look_again() -> None:
            await asyncio.wait((released,), timeout=pause)

        await wait_for_either(self._clock, look_again(), seconds)

    def _held(self, name: str, item: Item | None) -> Lease | None:
        if item is None or item["expires_at"] <= self._clock.now():
            return None
        return Lease(name, int(item["token"]), item["holder"], float(item["expires_at"]))

    def _pk(self, name: str) -> str:
        return partition_key(self._cosmos.options.namespace, "lock", name)


def _contended(name: str) -> LockError:
    return LockError(f"{name}: {_ATTEMPTS} attempts in a row met another client; try again", name=name)


def _check(name: str, ttl: float) -> None:
    check_key("lock name", name)
    if not ttl > 0:
        raise ValueError(f"ttl={ttl}: a lease lasts more than 0 seconds")
