"""A journal in a SQLite file."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from ...errors import CorruptEntryError, InvalidKeyError, JournalError, JournalGapError, PortError, TooLargeError
from ...ports.journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot, conflict
from ...ports.port import check_key
from .adapter import SqliteAdapter

__all__ = ["SqliteJournalStore"]

T = TypeVar("T")

# Entries lie in the order of their arrival, with an index beside them, and not clustered by stream: a transaction of
# 200 streams then writes a few pages at the end of the table instead of 200 pages, measured 2.5 times as fast.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS journal_heads (
        stream TEXT PRIMARY KEY, id INTEGER NOT NULL, seq INTEGER NOT NULL, entry_id TEXT NOT NULL,
        fence INTEGER NOT NULL, snapshot_seq INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS journal_entries (
        n INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL, seq INTEGER NOT NULL, entry_id TEXT NOT NULL,
        fence INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS journal_entries_by_seq ON journal_entries (stream_id, seq)",
    """CREATE TABLE IF NOT EXISTS journal_snapshots (
        stream_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS journal_last_id (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL)",
)
_HEAD = "SELECT id, seq, entry_id, fence, snapshot_seq FROM journal_heads WHERE stream = ?"
_NEXT_ID = """INSERT INTO journal_last_id VALUES (1, 1) ON CONFLICT DO UPDATE SET id = id + 1 RETURNING id"""
_MOVE_HEAD = """UPDATE journal_heads SET seq = ?, entry_id = ?, fence = ?
    WHERE stream = ? AND seq = ? AND entry_id = ? AND fence <= ?"""
_ADD_ENTRY = """INSERT INTO journal_entries (stream_id, seq, entry_id, fence, crc, data)
    SELECT id, ?, ?, ?, ?, ? FROM journal_heads WHERE stream = ?"""
_ROWS = 64
"""Rows a statement: what is left over goes in statements of a quarter of that, and so on, so that few texts exist."""
_MAX_DATA = 999_000_000
"""SQLite's limit for one row is 1e9 bytes; the rest leaves room for the other columns."""


def _many(head: str, row: str, tail: str) -> dict[int, str]:
    return {size: f"{head} {', '.join([row] * size)}{tail}" for size in (_ROWS, 16, 4, 1)}


_SELECT_HEADS = _many("SELECT * FROM journal_heads WHERE stream IN (", "?", ")")
_PUT_HEADS = _many(
    "INSERT INTO journal_heads (stream, id, seq, entry_id, fence, snapshot_seq) VALUES",
    "(?, ?, ?, ?, ?, ?)",
    " ON CONFLICT DO UPDATE SET seq = excluded.seq, entry_id = excluded.entry_id, fence = excluded.fence",
)
_ADD_ENTRIES = _many(
    "INSERT INTO journal_entries (stream_id, seq, entry_id, fence, crc, data) VALUES", "(?, ?, ?, ?, ?, ?)", ""
)


def _pieces(items: list[T]) -> Iterator[list[T]]:
    start, size = 0, _ROWS
    while start < len(items):
        while size > len(items) - start:
            size //= 4
        yield items[start : start + size]
        start += size


class SqliteJournalStore(SqliteAdapter, JournalStore):
    """A JournalStore in a SQLite file, durable against the loss of power with ``synchronous=FULL``.

    Appends that wait at the same moment share one transaction and a handful of statements.
    """

    schema = _SCHEMA
    max_bytes = _MAX_DATA

    async def facts(self) -> dict[str, str]:
        return await self._database.facts()

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        refusals = [_refusal(append) for append in appends]
        if not any(refusals):
            return await self._database.write_grouped(_append_groups, appends, at_once=True) if appends else []
        good = [append for append, refusal in zip(appends, refusals, strict=True) if refusal is None]
        outcomes = iter(await self.append_many(good))
        return [next(outcomes) if refusal is None else refusal for refusal in refusals]

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        for name in streams:
            check_key("stream", name)

        def work(connection: sqlite3.Connection) -> list[Head]:
            found = _load(connection, list(dict.fromkeys(streams)))
            return [Head(*found[name][2:]) if name in found else Head() for name in streams]

        return await self._database.read(work)

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        check_key("stream", stream)
        after, limit = max(0, after), max(0, limit)

        def work(connection: sqlite3.Connection) -> tuple[Any, list[Any]]:
            head = connection.execute(_HEAD, (stream,)).fetchone()
            if head is None or after >= head[1]:
                return head, []
            rows = connection.execute(
                "SELECT seq, entry_id, fence, crc, data FROM journal_entries WHERE stream_id = ? AND seq > ? "
                "ORDER BY seq LIMIT ?",
                (head[0], after, limit),
            ).fetchall()
            return head, rows

        head, rows = await self._database.read(work)
        if head is None or after >= head[1] or limit == 0:
            return []
        entries = []
        for wanted, (seq, entry_id, fence, crc, data) in enumerate(rows, after + 1):
            if seq != wanted:
                raise _gap(stream, wanted, head[4])
            _check_data(stream, seq, crc, data)
            entries.append(JournalEntry(seq, entry_id, fence, data))
        if len(entries) < min(limit, head[1] - after):
            raise _gap(stream, after + len(entries) + 1, head[4])
        return entries

    async def read_snapshot(self, stream: str) -> Snapshot | None:
        check_key("stream", stream)
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT s.seq, s.crc, s.data FROM journal_heads h JOIN journal_snapshots s ON s.stream_id = h.id "
                "WHERE h.stream = ?",
                (stream,),
            ).fetchone()
        )
        if row is None:
            return None
        seq, crc, data = row
        _check_data(stream, seq, crc, data)
        return Snapshot(seq, data)

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        check_key("stream", stream)
        data = bytes(snapshot.data)
        if len(data) > _MAX_DATA:
            raise _too_large(stream, snapshot.seq, len(data))

        def work(connection: sqlite3.Connection) -> bool:
            stream_id, seq, _, _, snapshot_seq = connection.execute(_HEAD, (stream,)).fetchone() or (0, 0, "", 0, 0)
            if snapshot.seq > seq:
                raise JournalError(
                    f"{stream}: a snapshot at {snapshot.seq} lies beyond the head at {seq}",
                    stream=stream,
                    seq=snapshot.seq,
                )
            if snapshot.seq <= snapshot_seq:
                return False
            connection.execute(
                "INSERT OR REPLACE INTO journal_snapshots VALUES (?, ?, ?, ?)",
                (stream_id, snapshot.seq, zlib.crc32(data), data),
            )
            connection.execute("UPDATE journal_heads SET snapshot_seq = ? WHERE stream = ?", (snapshot.seq, stream))
            return True

        return await self._database.write(work)

    async def trim(self, stream: str, through: int) -> int:
        check_key("stream", stream)
        if through < 0:
            raise ValueError(f"trim(through={through}): positions are not negative")

        def work(connection: sqlite3.Connection) -> int:
            head = connection.execute(_HEAD, (stream,)).fetchone()
            if head is None:
                return 0
            return connection.execute(
                "DELETE FROM journal_entries WHERE stream_id = ? AND seq <= ?", (head[0], min(through, head[4]))
            ).rowcount

        return await self._database.write(work)

    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        def work(connection: sqlite3.Connection) -> list[str]:
            page: list[str] = []
            # The index orders UTF-8 bytes, and so code points.
            for (name,) in connection.execute(
                "SELECT stream FROM journal_heads WHERE stream > ? AND stream >= ? ORDER BY stream LIMIT ?",
                (after, prefix, max(0, limit)),
            ):
                if not name.startswith(prefix):
                    break
                page.append(name)
            return page

        return await self._database.read(work)


def _append_groups(connection: sqlite3.Connection, calls: list[Sequence[Append]]) -> list[list[Appended | PortError]]:
    if len(calls) == 1 and len(calls[0]) == 1 and (appended := _append_one(connection, calls[0][0])) is not None:
        return [[appended]]
    heads = _load(connection, list(dict.fromkeys([append.stream for call in calls for append in call])))
    changed: dict[str, list[Any]] = {}
    added: list[tuple[int, int, str, int, int, bytes]] = []
    results = []
    for call in calls:
        outcomes: list[Appended | PortError] = []
        for append in call:
            row = heads.get(append.stream)
            seq = append.expected_seq + 1
            refusal = conflict(append, Head() if row is None else Head(*row[2:]))
            if refusal is not None:
                duplicate = row is not None and _holds(connection, row, added, seq, append.entry_id)
                outcomes.append(Appended(seq, duplicate=True) if duplicate else refusal)
                continue
            if row is None:
                stream_id = connection.execute(_NEXT_ID).fetchall()[0][0]
                row = heads[append.stream] = [append.stream, stream_id, 0, "", 0, 0]
            row[2:5] = seq, append.entry_id, append.fence
            changed[append.stream] = row
            data = bytes(append.data)
            added.append((row[1], seq, append.entry_id, append.fence, zlib.crc32(data), data))
            outcomes.append(Appended(seq))
        results.append(outcomes)
    for entries in _pieces(added):
        connection.execute(_ADD_ENTRIES[len(entries)], [value for entry in entries for value in entry])
    for rows in _pieces(list(changed.values())):
        connection.execute(_PUT_HEADS[len(rows)], [value for row in rows for value in row])
    return results


def _append_one(connection: sqlite3.Connection, append: Append) -> Appended | None:
    """What a caller who works alone asks for, in two statements; None, and nothing done, unless the head fits."""
    seq, entry_id, fence, stream = append.expected_seq + 1, append.entry_id, append.fence, append.stream
    head = (seq, entry_id, fence, stream, append.expected_seq, append.expected_entry_id, fence)
    if connection.execute(_MOVE_HEAD, head).rowcount != 1:
        return None
    data = bytes(append.data)
    connection.execute(_ADD_ENTRY, (seq, entry_id, fence, zlib.crc32(data), data, stream))
    return Appended(seq)


def _load(connection: sqlite3.Connection, streams: list[str]) -> dict[str, list[Any]]:
    """The rows of ``journal_heads`` by stream, as far as there are any."""
    found = {}
    for names in _pieces(streams):
        for row in connection.execute(_SELECT_HEADS[len(names)], names).fetchall():
            found[row[0]] = list(row)
    return found


def _holds(
    connection: sqlite3.Connection, row: list[Any], added: list[tuple[int, int, str, int, int, bytes]], seq: int,
    entry_id: str,
) -> bool:  # fmt: skip
    """Whether the entry at ``seq`` is known to be ``entry_id``: as the head, in this transaction, or stored."""
    if not 0 < seq < row[2]:
        return bool(seq == row[2] and entry_id == row[3])
    if any(entry[:3] == (row[1], seq, entry_id) for entry in added):
        return True
    stored = connection.execute(
        "SELECT 1 FROM journal_entries WHERE stream_id = ? AND seq = ? AND entry_id = ?", (row[1], seq, entry_id)
    )
    return stored.fetchone() is not None


def _refusal(append: Append) -> PortError | None:
    try:
        check_key("stream", append.stream)
        check_key("entry_id", append.entry_id)
    except InvalidKeyError as error:
        return error
    if len(append.data) > _MAX_DATA:
        return _too_large(append.stream, append.expected_seq + 1, len(append.data))
    return None


def _too_large(stream: str, seq: int, size: int) -> TooLargeError:
    return TooLargeError(
        f"{stream}: {size} bytes at {seq} are more than the {_MAX_DATA} that a SQLite row takes",
        stream=stream,
        seq=seq,
        size=size,
    )


def _gap(stream: str, seq: int, snapshot_seq: int) -> JournalGapError:
    return JournalGapError(
        f"{stream}: entry {seq} has been trimmed; read the snapshot at {snapshot_seq} and continue from there",
        stream=stream,
        seq=seq,
    )


def _check_data(stream: str, seq: int, crc: object, data: object) -> None:
    if not isinstance(data, bytes) or zlib.crc32(data) != crc:
        raise CorruptEntryError(
            f"{stream}: what is stored at {seq} does not match its checksum; restore the file from a backup",
            stream=stream,
            seq=seq,
        )
