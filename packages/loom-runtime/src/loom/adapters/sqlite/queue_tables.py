"""The tables of the SQLite queue and what is done to them, each inside a transaction of the caller.

A group is a lane: only its first message is ``head``, and only heads are found by the index of what is ready, so a
receive costs the same however many messages wait behind a slow actor. A message without a group is always ``head``.
``n`` is the place in the order. A message sent with a delay (PLANNED) gets its place when the delay ends.
"""

from __future__ import annotations

import heapq
import sqlite3
from typing import Any, NamedTuple

from ...ports.queue import DeadLetter, Delivery, OutgoingMessage, QueueDepth

__all__ = [
    "SCHEMA", "Held", "add", "bury", "changes", "charge", "dead_letters", "depth", "discard", "drop_expired",
    "end_leases", "forget", "held", "leased", "look", "names", "put_back", "redrive", "remember", "remove", "set_due",
    "settle", "take", "touch",
]  # fmt: skip

READY, LEASED, RETURNED, PLANNED = 0, 1, 2, 3
"""States: receivable once it is head; leased, nacked with a delay, or sent with a delay, until ``due``."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS queue_messages (
        n INTEGER PRIMARY KEY, queue TEXT NOT NULL, id TEXT NOT NULL, grp TEXT NOT NULL, priority INTEGER NOT NULL,
        state INTEGER NOT NULL, head INTEGER NOT NULL, due REAL NOT NULL, receipt TEXT NOT NULL,
        attempts INTEGER NOT NULL, enqueued_at REAL NOT NULL, expires_at REAL, body BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS queue_messages_by_id ON queue_messages (queue, id)",
    "CREATE INDEX IF NOT EXISTS queue_messages_ready ON queue_messages (queue, priority DESC) WHERE head AND state = 0",
    "CREATE INDEX IF NOT EXISTS queue_messages_due ON queue_messages (queue, due) WHERE state > 0",
    "CREATE INDEX IF NOT EXISTS queue_messages_lane ON queue_messages (queue, grp) WHERE grp <> '' AND state < 3",
    "CREATE INDEX IF NOT EXISTS queue_messages_expiry ON queue_messages (expires_at) WHERE expires_at IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS queue_dead (
        queue TEXT NOT NULL, id TEXT NOT NULL, grp TEXT NOT NULL, priority INTEGER NOT NULL, attempts INTEGER NOT NULL,
        reason TEXT NOT NULL, dead_at REAL NOT NULL, body BLOB NOT NULL, PRIMARY KEY (queue, id)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS queue_finished (
        queue TEXT NOT NULL, id TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (queue, id)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS queue_finished_until ON queue_finished (until)",
    # Receivers wake at every commit to the file, most of which are journal entries: this tells them to look closer.
    "CREATE TABLE IF NOT EXISTS queue_changes (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL)",
)

_DELIVERY = "n, id, grp, priority, attempts, enqueued_at, expires_at, body"
_LANE = "queue = ? AND grp = ? AND grp <> '' AND state < 3"
_LEASED = "state > 0 AND state = 1"  # the first condition is that of an index
_KNOWN = """SELECT 1 FROM queue_messages WHERE queue = :queue AND id = :id
    UNION ALL SELECT 1 FROM queue_dead WHERE queue = :queue AND id = :id
    UNION ALL SELECT 1 FROM queue_finished WHERE queue = :queue AND id = :id AND until > :now"""


class Held(NamedTuple):
    """A message whose lease still runs."""

    n: int
    queue: str
    id: str
    grp: str
    head: int


def touch(connection: sqlite3.Connection) -> None:
    """Tell receivers, of every process, that something may have become ready."""
    connection.execute("INSERT INTO queue_changes VALUES (1, 1) ON CONFLICT DO UPDATE SET count = count + 1")


def changes(connection: sqlite3.Connection) -> int:
    """How often ``touch`` was called."""
    row = connection.execute("SELECT count FROM queue_changes").fetchone()
    return 0 if row is None else int(row[0])


def add(connection: sqlite3.Connection, message: OutgoingMessage, now: float) -> bool:
    """Insert unless the id is known. The queue must be settled, so that delays that ended come first."""
    key = {"queue": message.queue, "id": message.id, "now": now}
    if connection.execute(_KNOWN, key).fetchone() is not None:
        return False
    planned = message.delay > 0
    connection.execute(
        "INSERT INTO queue_messages (queue, id, grp, priority, state, head, due, receipt, attempts, enqueued_at, "
        "expires_at, body) VALUES (?, ?, ?, ?, ?, ?, ?, '', 0, ?, ?, ?)",
        (
            message.queue, message.id, message.group, message.priority, PLANNED if planned else READY,
            0 if planned else int(_lane_is_empty(connection, message.queue, message.group)), now + message.delay, now,
            message.expires_at, bytes(message.body),
        ),
    )  # fmt: skip
    return True


def settle(connection: sqlite3.Connection, queue: str, now: float) -> None:
    """Let the leases and delays of the queue end that are due, in that order."""
    due = connection.execute(
        "SELECT n, state, grp FROM queue_messages WHERE queue = ? AND state > 0 AND due <= ? ORDER BY due, n",
        (queue, now),
    ).fetchall()
    for n, state, group in due:
        if state == PLANNED:
            head = _lane_is_empty(connection, queue, group)
            connection.execute(
                "UPDATE queue_messages SET n = (SELECT max(n) + 1 FROM queue_messages), state = 0, head = ? "
                "WHERE n = ?",
                (int(head), n),
            )
        else:
            connection.execute("UPDATE queue_messages SET state = 0, receipt = '' WHERE n = ?", (n,))


def look(connection: sqlite3.Connection, queues: list[str], now: float) -> tuple[list[str], float]:
    """Which of the queues have something ready or due, and when the next lease or delay of the others ends."""
    ready, next_due = [], float("inf")
    for start in range(0, len(queues), 256):
        some = queues[start : start + 256]
        # One text for many numbers of queues; the repeated name changes nothing.
        size = next(size for size in (1, 16, 256) if size >= len(some))
        rows = connection.execute(_LOOK[size], some + [some[0]] * (size - len(some)))
        for name, has_ready, due in rows.fetchall():
            if has_ready or (due is not None and due <= now):
                ready.append(name)
            elif due is not None:
                next_due = min(next_due, due)
    return list(dict.fromkeys(ready)), next_due


_LOOK = {
    size: f"""WITH names (name) AS (VALUES {", ".join(["(?)"] * size)}), found AS (
        SELECT name,
            EXISTS (SELECT 1 FROM queue_messages WHERE queue = name AND head AND state = 0) AS has_ready,
            (SELECT min(due) FROM queue_messages WHERE queue = name AND state > 0) AS due
        FROM names)
    SELECT name, has_ready, due FROM found WHERE has_ready OR due IS NOT NULL"""
    for size in (1, 16, 256)
}


def take(
    connection: sqlite3.Connection, queue: str, limit: int, receive: str, now: float, until: float
) -> list[Delivery]:
    """Lease up to ``limit`` messages of a settled queue, the higher priority first, then in the order of sending.

    ``receive`` is unique to the call; receipts are made of it.
    """
    # A heap of what may be taken next: the ready heads, and behind each one taken the next of its lane.
    candidates: list[tuple[int, int, tuple[Any, ...]]] = []
    while not candidates:
        rows = connection.execute(
            f"SELECT {_DELIVERY} FROM queue_messages WHERE queue = ? AND head AND state = 0 "
            "ORDER BY priority DESC, n LIMIT ?",
            (queue, limit),
        ).fetchall()
        if not rows:
            return []
        for row in rows:
            if _expired(row, now):
                remove(connection, Held(row[0], queue, row[1], row[2], 1))
            else:
                candidates.append((-row[3], row[0], row))
    taken: list[tuple[Any, ...]] = []
    while candidates and len(taken) < limit:
        _, n, row = heapq.heappop(candidates)
        taken.append(row)
        if row[2] and (behind := _next_in_lane(connection, queue, row[2], n, now)) is not None:
            heapq.heappush(candidates, (-behind[3], behind[0], behind))
    connection.executemany(
        "UPDATE queue_messages SET state = 1, due = ?, receipt = ? WHERE n = ?",
        [(until, f"{receive}-{row[0]}", row[0]) for row in taken],
    )
    return [
        Delivery(
            queue=queue, id=id, body=body, group=group, priority=priority, attempts=attempts,
            receipt=f"{receive}-{n}", enqueued_at=enqueued_at, expires_at=expires_at, lease_until=until,
        )
        for n, id, group, priority, attempts, enqueued_at, expires_at, body in taken
    ]  # fmt: skip


def held(connection: sqlite3.Connection, delivery: Delivery, now: float) -> Held | None:
    """The message if its lease under the delivery's receipt still runs."""
    row = connection.execute(
        "SELECT n, queue, id, grp, head FROM queue_messages "
        "WHERE queue = ? AND id = ? AND state = 1 AND receipt = ? AND due > ?",
        (delivery.queue, delivery.id, delivery.receipt, now),
    ).fetchone()
    return None if row is None else Held(*row)


def charge(connection: sqlite3.Connection, message: Held, now: float) -> None:
    """Count one more attempt."""
    connection.execute("UPDATE queue_messages SET attempts = attempts + 1 WHERE n = ?", (message.n,))


def set_due(connection: sqlite3.Connection, message: Held, due: float) -> None:
    """Let the lease end at ``due``."""
    connection.execute("UPDATE queue_messages SET due = ? WHERE n = ?", (due, message.n))


def put_back(connection: sqlite3.Connection, message: Held, now: float, delay: float) -> None:
    """End the lease; the message keeps its place and can be taken after ``delay`` seconds."""
    connection.execute(
        "UPDATE queue_messages SET state = ?, due = ?, receipt = '' WHERE n = ?",
        (RETURNED if delay > 0 else READY, now + delay, message.n),
    )


def leased(connection: sqlite3.Connection, queues: list[str]) -> bool:
    """Whether anything in the queues is leased, by a lease that runs or has ended."""
    return any(
        connection.execute(f"SELECT 1 FROM queue_messages WHERE queue = ? AND {_LEASED} LIMIT 1", (name,)).fetchone()
        for name in queues
    )


def end_leases(connection: sqlite3.Connection, queue: str) -> int:
    """End every lease in the queue; the messages keep their places."""
    return connection.execute(
        f"UPDATE queue_messages SET state = 0, receipt = '' WHERE queue = ? AND {_LEASED}", (queue,)
    ).rowcount


def remove(connection: sqlite3.Connection, message: Held) -> None:
    """Delete the message and let the next of its lane step forward."""
    connection.execute("DELETE FROM queue_messages WHERE n = ?", (message.n,))
    if message.grp and message.head:
        connection.execute(
            f"UPDATE queue_messages SET head = 1 WHERE n = (SELECT min(n) FROM queue_messages WHERE {_LANE})",
            (message.queue, message.grp),
        )


def remember(connection: sqlite3.Connection, queue: str, id: str, until: float) -> None:
    """Drop messages with this id until then."""
    connection.execute("INSERT OR REPLACE INTO queue_finished VALUES (?, ?, ?)", (queue, id, until))


def forget(connection: sqlite3.Connection, now: float, limit: int) -> None:
    """Prune up to ``limit`` finished ids whose time is over."""
    connection.execute(
        "DELETE FROM queue_finished WHERE (queue, id) IN "
        "(SELECT queue, id FROM queue_finished WHERE until <= ? ORDER BY until LIMIT ?)",
        (now, limit),
    )


def drop_expired(connection: sqlite3.Connection, now: float, limit: int) -> None:
    """Delete up to ``limit`` expired messages, of any queue: its reader may be gone. Those under a lease stay."""
    rows = connection.execute(
        "SELECT n, queue, id, grp, head FROM queue_messages WHERE expires_at <= :now AND (state <> 1 OR due <= :now) "
        "ORDER BY expires_at LIMIT :limit",
        {"now": now, "limit": limit},
    ).fetchall()
    for row in rows:
        remove(connection, Held(*row))


def bury(connection: sqlite3.Connection, message: Held, reason: str, now: float) -> None:
    """Make it a dead letter."""
    connection.execute(
        "INSERT INTO queue_dead SELECT queue, id, grp, priority, attempts, ?, ?, body FROM queue_messages WHERE n = ?",
        (reason, now, message.n),
    )
    remove(connection, message)


def dead_letters(connection: sqlite3.Connection, queue: str, after: str, limit: int) -> list[DeadLetter]:
    """Dead letters in the order of their ids."""
    rows = connection.execute(
        "SELECT id, body, grp, attempts, reason, dead_at FROM queue_dead WHERE queue = ? AND id > ? "
        "ORDER BY id LIMIT ?",
        (queue, after, limit),
    )
    return [
        DeadLetter(queue=queue, id=id, body=body, group=group, attempts=attempts, reason=reason, dead_at=dead_at)
        for id, body, group, attempts, reason, dead_at in rows
    ]


def redrive(connection: sqlite3.Connection, queue: str, id: str, now: float) -> bool:
    """Make the dead letter a new message of a settled queue."""
    row = connection.execute(
        "DELETE FROM queue_dead WHERE queue = ? AND id = ? RETURNING grp, priority, body", (queue, id)
    ).fetchall()
    if not row:
        return False
    group, priority, body = row[0]
    return add(connection, OutgoingMessage(queue=queue, id=id, body=body, group=group, priority=priority), now)


def discard(connection: sqlite3.Connection, queue: str, id: str, until: float) -> bool:
    """Delete the dead letter; its id counts as finished."""
    deleted = connection.execute("DELETE FROM queue_dead WHERE queue = ? AND id = ?", (queue, id)).rowcount == 1
    if deleted:
        remember(connection, queue, id, until)
    return deleted


def depth(connection: sqlite3.Connection, queue: str, now: float) -> QueueDepth:
    """Counts by state as of ``now``, settled or not."""
    ready, delayed, leased = connection.execute(
        "SELECT count(*) FILTER (WHERE state = 0 OR due <= :now), count(*) FILTER (WHERE state > 1 AND due > :now), "
        "count(*) FILTER (WHERE state = 1 AND due > :now) FROM queue_messages WHERE queue = :queue",
        {"queue": queue, "now": now},
    ).fetchone()
    dead = connection.execute("SELECT count(*) FROM queue_dead WHERE queue = ?", (queue,)).fetchone()[0]
    return QueueDepth(ready=ready, delayed=delayed, leased=leased, dead=dead)


def names(connection: sqlite3.Connection) -> list[str]:
    """The queues that hold messages or dead letters."""
    rows = connection.execute("SELECT queue FROM queue_messages UNION SELECT queue FROM queue_dead ORDER BY 1")
    return [row[0] for row in rows]


def _lane_is_empty(connection: sqlite3.Connection, queue: str, group: str) -> bool:
    if not group:
        return True
    lane = connection.execute(f"SELECT 1 FROM queue_messages WHERE {_LANE} LIMIT 1", (queue, group))
    return lane.fetchone() is None


def _next_in_lane(connection: sqlite3.Connection, queue: str, group: str, n: int, now: float) -> tuple[Any, ...] | None:
    while True:
        row: tuple[Any, ...] | None = connection.execute(
            f"SELECT {_DELIVERY}, state FROM queue_messages WHERE {_LANE} AND n > ? ORDER BY n LIMIT 1",
            (queue, group, n),
        ).fetchone()
        if row is None or row[-1] != READY:
            return None
        if not _expired(row, now):
            return row[:-1]
        remove(connection, Held(row[0], queue, row[1], row[2], 0))


def _expired(row: tuple[Any, ...], now: float) -> bool:
    return row[6] is not None and row[6] <= now
