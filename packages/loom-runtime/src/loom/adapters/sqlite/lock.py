"""Locks in a SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3

import msgspec

from ...clock import Clock
from ...errors import LockLostError, PortError
from ...ports.lock import Lease, LockManager
from ...ports.port import check_key
from ..waiting import WaitingLines, wait_for_either
from .adapter import SqliteAdapter
from .database import Database

__all__ = ["SqliteLockManager"]

# A released lock keeps its row, with an end in the past: the token must go on from it.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS locks (
        name TEXT PRIMARY KEY, token INTEGER NOT NULL, holder TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID""",
)
_TAKE = """INSERT INTO locks VALUES (:name, 1, :holder, :expires_at)
    ON CONFLICT DO UPDATE SET token = token + 1, holder = excluded.holder, expires_at = excluded.expires_at
    WHERE locks.expires_at <= :now RETURNING token"""
_MOVE_END = "UPDATE locks SET expires_at = ? WHERE name = ? AND holder = ? AND expires_at > ?"


class SqliteLockManager(SqliteAdapter, LockManager):
    """A LockManager for the processes that share a SQLite file."""

    schema = _SCHEMA

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        super().__init__(database, clock=clock)
        self._lines = WaitingLines()
        self._abandoned: set[asyncio.Task[None]] = set()

    async def _drain(self) -> None:
        await asyncio.gather(*self._abandoned, return_exceptions=True)

    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        _check(name, ttl)
        deadline = self._clock.monotonic() + wait
        if not self._lines.waiting(name) and (lease := await self._take(name, ttl)) is not None:
            return lease
        if wait <= 0:
            return None
        async with self._lines.turn(self._clock, name, deadline - self._clock.monotonic()) as in_front:
            while in_front:
                left = deadline - self._clock.monotonic()
                # Begin to listen before looking, or a release in between would go unheard.
                change = asyncio.ensure_future(self._database.changed(max(left, 0.0) + 1.0))
                try:
                    await asyncio.sleep(0)
                    held = await self.holder(name)
                    if held is None and (lease := await self._take(name, ttl)) is not None:
                        return lease
                    if left <= 0:
                        return None
                    if held is not None:
                        await wait_for_either(self._clock, change, min(left, held.expires_at - self._clock.now()))
                finally:
                    change.cancel()
        return None

    async def renew(self, lease: Lease, ttl: float) -> Lease:
        _check(lease.name, ttl)
        now = self._clock.now()
        if not await self._move_end(lease, now, now + ttl):
            raise LockLostError(
                f"the lock {lease.name} is no longer held under token {lease.token}; stop what it protects",
                name=lease.name,
                token=lease.token,
            )
        return msgspec.structs.replace(lease, expires_at=now + ttl)

    async def release(self, lease: Lease) -> bool:
        check_key("lock name", lease.name)
        return await self._move_end(lease, self._clock.now(), 0.0)

    async def holder(self, name: str) -> Lease | None:
        check_key("lock name", name)
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT name, token, holder, expires_at FROM locks WHERE name = ?", (name,)
            ).fetchone()
        )
        return Lease(*row) if row is not None and row[3] > self._clock.now() else None

    async def _take(self, name: str, ttl: float) -> Lease | None:
        holder = secrets.token_hex(12)

        def work(connection: sqlite3.Connection) -> Lease | None:
            # The time is read inside the transaction: the wait for it must not eat the lease.
            now = self._clock.now()
            values = {"name": name, "holder": holder, "now": now, "expires_at": now + ttl}
            rows = connection.execute(_TAKE, values).fetchall()
            return Lease(name, rows[0][0], holder, now + ttl) if rows else None

        taking = asyncio.ensure_future(self._database.write(work))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The transaction runs on; a lease that it takes belongs to nobody.
            task = asyncio.ensure_future(self._abandon(taking))
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            raise

    async def _abandon(self, taking: asyncio.Future[Lease | None]) -> None:
        with contextlib.suppress(PortError):  # then it ends by itself
            lease = await taking
            if lease is not None:
                await self.release(lease)

    async def _move_end(self, lease: Lease, now: float, expires_at: float) -> bool:
        values = (expires_at, lease.name, lease.holder, now)
        return await self._database.write(lambda connection: connection.execute(_MOVE_END, values).rowcount == 1)


def _check(name: str, ttl: float) -> None:
    check_key("lock name", name)
    if not ttl > 0:
        raise ValueError(f"ttl={ttl}: a lease lasts more than 0 seconds")
