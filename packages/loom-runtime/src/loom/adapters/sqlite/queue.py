"""A message queue in a SQLite file."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import Self

from ...clock import Clock
from ...errors import TooLargeError
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.port import check_key
from ...ports.queue import DeadLetter, Delivery, MessageQueue, OutgoingMessage, QueueDepth
from ..waiting import wait_for_either
from . import queue_tables as tables
from .adapter import SqliteAdapter
from .database import Database, database_from_url

__all__ = ["SqliteMessageQueue"]

_MAX_BODY = 999_000_000
"""SQLite's limit for one row is 1e9 bytes; the rest leaves room for the other columns."""


class SqliteMessageQueue(SqliteAdapter, MessageQueue):
    """A MessageQueue for the processes that share a SQLite file, ordered within a group.

    A receive that finds nothing only reads; it takes the write lock when there is something to lease.
    """

    schema = tables.SCHEMA
    max_bytes = _MAX_BODY

    def __init__(self, database: Database, *, clock: Clock | None = None, dedupe_window: float = 300.0) -> None:
        super().__init__(database, clock=clock)
        self.dedupe_window = dedupe_window
        self._turns = 0

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``sqlite:///FILE?dedupe_window=SECONDS`` (default 300); see ``database_from_url`` for other options."""
        window = float(url.query.get("dedupe_window", "300"))
        return cls(database_from_url(url, context), clock=context.clock, dedupe_window=window)

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        for message in messages:
            check_key("queue", message.queue)
            check_key("message id", message.id)
            if len(message.body) > _MAX_BODY:
                raise TooLargeError(
                    f"{message.queue}: the body of {message.id} has {len(message.body)} bytes, more than {_MAX_BODY}",
                    queue=message.queue,
                    id=message.id,
                )
        if not messages:
            return []

        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock.now()
            for name in {message.queue for message in messages}:
                tables.settle(connection, name, now)
            accepted = [tables.add(connection, message, now) for message in messages]
            tables.touch(connection)
            return accepted

        return await self._database.write(work)

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        for name in queues:
            check_key("queue", name)
        names = list(dict.fromkeys(queues))
        if not names or limit <= 0:
            return []
        deadline = self._clock.monotonic() + wait
        seen, due = -1, float("inf")
        while True:
            left = deadline - self._clock.monotonic()
            # Begin to listen before looking, or a send in between would go unheard.
            change = asyncio.ensure_future(self._database.changed(left + 1.0)) if left > 0 else None
            try:
                if change is not None:
                    await asyncio.sleep(0)
                changes, now = await self._database.read(tables.changes), self._clock.now()
                if changes != seen or due <= now:
                    seen = changes
                    ready, due = await self._look(names, now)
                    if ready and (taken := await self._take(ready, limit, lease)):
                        return taken
                    if ready:  # another receiver was quicker; when its leases end is not known yet
                        seen = -1
                if change is None:
                    return []
                if seen != -1:
                    await wait_for_either(self._clock, change, min(left, due - now))
            finally:
                if change is not None:
                    change.cancel()

    async def begin(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return await self._each(deliveries, tables.charge, frees=False)

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        def finish(connection: sqlite3.Connection, held: tables.Held, now: float) -> None:
            tables.remove(connection, held)
            tables.remember(connection, held.queue, held.id, now + self.dedupe_window)

        return await self._each(deliveries, finish)

    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        [kept] = await self._each([delivery], lambda c, held, now: tables.put_back(c, held, now, delay))
        return kept

    async def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        return await self._each(deliveries, lambda c, held, now: tables.set_due(c, held, now + lease), frees=False)

    async def end_leases(self, queues: Sequence[str]) -> int:
        for name in queues:
            check_key("queue", name)
        names = list(dict.fromkeys(queues))
        # Mostly there is nothing to end, and a read costs no fsync.
        if not await self._database.read(lambda connection: tables.leased(connection, names)):
            return 0

        def work(connection: sqlite3.Connection) -> int:
            ended = sum(tables.end_leases(connection, name) for name in names)
            tables.touch(connection)
            return ended

        return await self._database.write(work)

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        [kept] = await self._each([delivery], lambda c, held, now: tables.bury(c, held, reason, now))
        return kept

    async def dead_letters(self, queue: str, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        check_key("queue", queue)
        return await self._database.read(lambda c: tables.dead_letters(c, queue, after, max(0, limit)))

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[bool]:
        check_key("queue", queue)

        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock.now()
            tables.settle(connection, queue, now)
            done = [tables.redrive(connection, queue, id, now) for id in ids]
            tables.touch(connection)
            return done

        return await self._database.write(work)

    async def discard(self, queue: str, ids: Sequence[str]) -> list[bool]:
        check_key("queue", queue)

        def work(connection: sqlite3.Connection) -> list[bool]:
            until = self._clock.now() + self.dedupe_window
            return [tables.discard(connection, queue, id, until) for id in ids]

        return await self._database.write(work)

    async def depth(self, queue: str) -> QueueDepth:
        check_key("queue", queue)
        now = self._clock.now()
        return await self._database.read(lambda connection: tables.depth(connection, queue, now))

    async def queues(self) -> list[str]:
        return await self._database.read(tables.names)

    async def _look(self, names: list[str], now: float) -> tuple[list[str], float]:
        return await self._database.read(lambda connection: tables.look(connection, names, now))

    async def _take(self, ready: list[str], limit: int, lease: float) -> list[Delivery]:
        # Another queue comes first each time, and each may fill an equal share before any takes more.
        self._turns += 1
        turn = self._turns % len(ready)
        receive = secrets.token_hex(8)

        def work(connection: sqlite3.Connection) -> list[Delivery]:
            now = self._clock.now()
            waiting = ready[turn:] + ready[:turn]
            share = max(1, limit // len(ready))
            taken: list[Delivery] = []
            while waiting and len(taken) < limit:
                name = waiting.pop(0)
                tables.settle(connection, name, now)
                got = tables.take(connection, name, min(share, limit - len(taken)), receive, now, now + lease)
                taken += got
                if len(got) == share:
                    waiting.append(name)
            return taken

        taking = asyncio.ensure_future(self._database.write(work))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The write goes on whether somebody waits for it or not, and nobody would ever ack what it leases.
            await self._each(await taking, lambda c, held, now: tables.put_back(c, held, now, 0.0))
            raise

    async def _each(
        self,
        deliveries: Sequence[Delivery],
        change: Callable[[sqlite3.Connection, tables.Held, float], None],
        *,
        frees: bool = True,
    ) -> list[bool]:
        """Apply ``change`` to each delivery whose lease still runs; say which those were.

        ``frees`` says that others may become ready by it.
        """
        if not deliveries:
            return []

        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock.now()
            outcomes = []
            for delivery in deliveries:
                held = tables.held(connection, delivery, now)
                if held is not None:
                    change(connection, held, now)
                outcomes.append(held is not None)
            if frees:
                tables.forget(connection, now, 2 * len(deliveries) + 8)
                tables.drop_expired(connection, now, 2 * len(deliveries) + 8)
                tables.touch(connection)
            return outcomes

        return await self._database.write(work)
