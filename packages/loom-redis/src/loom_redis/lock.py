"""Locks in Redis: leases with tokens, and one line of waiters for all hosts."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec

from loom.clock import Clock, SystemClock
from loom.errors import LockLostError, PortError
from loom.ports import Lease, LockManager
from loom.ports.port import check_key

from .adapter import RedisAdapter
from .channel import Argument
from .client import Redis
from .lock_line import LockLine, Waiter
from .scripts import load_script

__all__ = ["RedisLockManager"]

_SCRIPT = load_script("lock")
_READ = load_script("lock", writes=False)


class RedisLockManager(RedisAdapter, LockManager):
    """A LockManager for a fleet.

    Each operation is one script. Waiters of all hosts stand in one line, in the order in which they came; whoever
    releases hands the lock to the first of them. A waiter whose process ended is passed over: at once where the server
    sees its connection end, else ten seconds after its last sign of life. A token's counter is kept for every name
    that was ever locked, about 150 bytes.
    """

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        """Time is the server's, unless ``clock`` is another than the system's."""
        super().__init__(redis, clock=clock)
        self._clock = clock or SystemClock()
        self._own_time = not isinstance(self._clock, SystemClock)
        self._client = secrets.token_hex(8)
        self._calls = 0
        self._lines: dict[str, LockLine] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # A node of a cluster counts its own listeners only.
        self._counts_all = "0" if redis.options.mode == "cluster" else "1"

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        """See the port. Waiters of all managers are served in the order in which they came."""
        _check(name, ttl)
        began = self._clock.monotonic()
        holder = secrets.token_hex(12)
        if wait <= 0 or name not in self._lines:
            reply = await self._ask_or_leave(name, holder, ttl, stand_in_line=False)
            if len(reply) == 1:
                return _lease(name, reply[0])
            if wait <= 0:
                return None
        return await self._wait(name, holder, ttl, wait - (self._clock.monotonic() - began))

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        _check(lease.name, ttl)
        reply = await self._run("renew", lease.name, lease.holder, repr(float(ttl)), lease.token)
        if reply is None:
            raise LockLostError(
                f"the lock {lease.name} is no longer held under token {lease.token}; stop what it protects",
                name=lease.name,
                token=lease.token,
            )
        return msgspec.structs.replace(lease, expires_at=float(reply[2]))

    async def release(self, lease: Lease) -> bool:
        check_key("lock name", lease.name)
        self._calls += 1
        released, following = await self._run(
            "release", lease.name, lease.holder, f"{self._client}:{self._calls}", lease.token
        )
        self._granted(lease.name, following)
        return bool(released)

    async def holder(self, name: str) -> Lease | None:
        check_key("lock name", name)
        reply = await self._run("holder", name)
        return None if reply is None else _lease(name, reply)

    async def _drain(self) -> None:
        """Those who wait get nothing, and leave the line before this returns."""
        await asyncio.gather(*(line.end_waits() for line in self._lines.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait(self, name: str, holder: str, ttl: float, wait: float) -> Lease | None:
        line = self._lines.get(name) or self._open_line(name)
        async with line.waiter(holder, ttl, wait) as waiter:
            reply = await self._ask_or_leave(name, holder, ttl, stand_in_line=True)
            if len(reply) == 1:
                return _lease(name, reply[0])
            waiter.ticket = reply[1]
            line.look_after(float(reply[0]))
            try:
                given = await waiter.given
                if given is None:  # its time is over; what was handed to it just now is still good
                    waiter.ticket = b""  # no sign of life that is sent after this may put it in line again
                    given = await self._run("leave", name, holder, repr(float(ttl)), "keep")
                waiter.got_it = bool(given)
            except BaseException:
                self._leave(name, holder, ttl)
                raise
        return _lease(name, given) if given else None

    def _open_line(self, name: str) -> LockLine:
        def forget() -> None:
            if self._lines.get(name) is line:
                del self._lines[name]

        line = self._lines[name] = LockLine(self._redis, self._clock, self._wake(name) + self._client)
        line.open(lambda: self._stay(name, line), forget)
        return line

    async def _ask_or_leave(self, name: str, holder: str, ttl: float, *, stand_in_line: bool) -> Any:
        try:
            reply = await self._run("acquire", name, holder, repr(float(ttl)), "1" if stand_in_line else "0")
            if len(reply) > 1:
                self._granted(name, reply[2])
            return reply
        except BaseException:
            # Cancelled, or failed with an unknown outcome: a lease that was taken belongs to nobody. What leaves the
            # line is sent behind what joined it.
            self._leave(name, holder, ttl)
            raise

    def _leave(self, name: str, holder: str, ttl: float, then: str = "free") -> None:
        async def leave() -> None:
            try:
                following = await self._run("leave", name, holder, repr(float(ttl)), then)
            except PortError:
                return  # the lease ends by itself, and the client that does not wait is passed over
            self._granted(name, following)

        task = asyncio.ensure_future(leave())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stay(self, name: str, line: LockLine) -> float:
        """Say that the waiters wait, and take what was handed to one; seconds until the lease ends."""
        # One that was handed the lock just now waits no more: if its lease has ended already, it must not get another.
        waiters: list[Waiter] = [one for one in line.waiters.values() if one.ticket and not one.given.done()]
        arguments = [part for waiter in waiters for part in (waiter.holder, repr(waiter.ttl), waiter.ticket)]
        left, own = await self._run("stay", name, *arguments)
        for waiter in waiters:
            if waiter.holder not in line.waiters:
                # It went while this was under way; sent again after a lost connection, this may have brought it back.
                self._leave(name, waiter.holder, waiter.ttl, "ignore" if waiter.got_it else "free")
        self._granted(name, own)
        return float(left)

    def _granted(self, name: str, lease: Any) -> None:
        """A waiter of this manager was handed the lock. One that is gone meanwhile gives it back as it leaves."""
        line = self._lines.get(name)
        if lease and line is not None:
            line.give(lease)

    async def _run(self, operation: str, name: str, *arguments: Argument) -> Any:
        redis = self._redis
        keys = [redis.key("locks", name, "lease"), redis.key("locks", name, "line"), redis.key("locks", name, "alive")]
        now = repr(self._clock.now()) if self._own_time else ""
        script = _READ if operation == "holder" else _SCRIPT
        return await redis.run(
            script, keys, [operation, now, self._wake(name), self._client, self._counts_all, *arguments],
            repeatable=True,
        )  # fmt: skip

    def _wake(self, name: str) -> str:
        return self._redis.key("locks", name, "wake:")


def _lease(name: str, fields: Any) -> Lease:
    holder, token, expires_at = fields
    return Lease(name, int(token), holder.decode(), float(expires_at))


def _check(name: str, ttl: float) -> None:
    check_key("lock name", name)
    if not ttl > 0:
        raise ValueError(f"ttl={ttl}: a lease lasts more than 0 seconds")
