"""Concurrent use of locks, by a plan that a seed repeats."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence

from ...errors import LockLostError, StoreUnavailableError
from ...ports.lock import Lease, LockManager
from .locks import RecordingLocks
from .turns import Turns

__all__ = ["drive_locks"]

_STUCK = 0.1
"""Seconds of real time after which more time is let pass for the locks."""


async def drive_locks(
    clients: Sequence[RecordingLocks],
    names: Sequence[str],
    *,
    seed: int,
    ttl: float,
    calls: int = 40,
    pass_time: Callable[[float], Awaitable[None]] | None = None,
    cancel: float = 0.05,
    wait: bool = True,
) -> None:
    """Let every client make about ``calls`` calls, all at once, on ``names``, which nobody has locked before.

    With ``wait`` everybody waits for the lock at the first of the names; at the others nobody does. Leases last ``ttl``
    seconds, of which ``pass_time``, if it is given, lets some go by now and then, so that leases end. Clients renew and
    give back the leases that they have, and try to with those that they had; a share ``cancel`` of the attempts to take
    a lock is cancelled half way. What each client does next depends on ``seed`` and on the answers that it got.
    """
    running = asyncio.gather(
        *(
            _Client(client, names, ttl, random.Random(f"{seed}-{n}"), pass_time, cancel, wait).run(calls)
            for n, client in enumerate(clients)
        )
    )
    # A waiter that came to its sleep just after time was let pass sleeps for longer, and then there may be nobody left
    # to let time pass.
    while pass_time is not None and not (await asyncio.wait([running], timeout=_STUCK))[0]:
        await pass_time(ttl)
    await running


class _Client:
    def __init__(
        self,
        locks: LockManager,
        names: Sequence[str],
        ttl: float,
        dice: random.Random,
        pass_time: Callable[[float], Awaitable[None]] | None,
        cancel: float,
        wait: bool,
    ) -> None:
        self.locks = locks
        self.names = names
        self.waited = names[0] if wait else None
        self.ttl = ttl
        self.dice = dice
        self.pass_time = pass_time
        self.turns = Turns(dice, cancel)
        self.held: dict[str, Lease] = {}
        self.past: list[Lease] = []

    async def run(self, calls: int) -> None:
        for _ in range(calls):
            if self.pass_time is not None and self.dice.random() < 0.03:
                await self.pass_time(self.ttl * self.dice.choice([0.3, 0.6, 1.1]))
            name = self.dice.choice(self.names)
            lease = self.held.get(name)
            with contextlib.suppress(StoreUnavailableError):
                if lease is None:
                    await self.take(name)
                else:
                    await self.use(lease)
        for lease in self.held.values():
            with contextlib.suppress(StoreUnavailableError):
                await self.locks.release(lease)

    async def take(self, name: str) -> None:
        if self.past and self.dice.random() < 0.15:
            await self.misuse(self.dice.choice(self.past[-4:]))
        waits = name == self.waited
        # A lease that is taken by a call without an answer stays until it ends: nobody is to wait for that.
        cancelled = not waits and self.turns.to_cancel()

        async def acquire() -> None:
            lease = await self.locks.acquire(name, self.ttl, wait=self.ttl * 1000 if waits else 0.0)
            if lease is not None:
                self.held[name] = lease

        await self.turns.take(acquire, cancelled=cancelled)

    async def use(self, lease: Lease) -> None:
        what = self.dice.random()
        if what < 0.3:
            try:
                self.held[lease.name] = await self.locks.renew(lease, self.ttl)
            except LockLostError:
                self.past.append(self.held.pop(lease.name))
            return
        self.past.append(self.held.pop(lease.name))
        if what < 0.45:
            # A lease is a value: nothing keeps two tasks from using it at once.
            await asyncio.gather(
                self.locks.renew(lease, self.ttl), self.locks.release(lease), return_exceptions=True
            )  # fmt: skip
        else:
            await asyncio.sleep(0)
            await self.locks.release(lease)

    async def misuse(self, lease: Lease) -> None:
        if self.dice.random() < 0.5:
            await self.locks.release(lease)
        else:
            with contextlib.suppress(LockLostError):
                await self.locks.renew(lease, self.ttl)
