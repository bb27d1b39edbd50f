"""The SQL of the document store: tables, columns for indexed fields, queries.

Every indexed field has a column of its own, filled by the writer. Expression indexes over ``json_extract`` would save
the column, but SQLite's JSON cuts text at NUL, shows booleans as 0 and 1 and arrays as text; a column holds the value
as it compares: numbers, then text, then booleans (as blobs), NULL for what nothing matches.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from ...ports.documents import Collection, Document, Query
from ..document_rules import comparable, decode_cursor

__all__ = ["column_value", "create", "fields_of", "prune_sql", "query_sql", "row_of", "table_name", "upsert_sql"]

_PLAIN = re.compile(r"[a-z0-9_]+\Z")
_FALSE, _TRUE = b"\x00", b"\x01"
_BACKFILL_ROWS = 1000


def table_name(collection: str) -> str:
    """The table of a collection."""
    return f"documents_{collection}"


def _column(field: str) -> str:
    # SQLite folds the case of column names, so only what cannot collide stays as it is.
    return f"f_{field}" if _PLAIN.match(field) else f"x_{field.encode().hex()}"


def _field(column: str) -> str:
    return column[2:] if column.startswith("f_") else bytes.fromhex(column[2:]).decode()


def column_value(value: Any) -> Any:
    """A field's value as its column holds it."""
    if value is None or type(value) is str:
        return value
    key = comparable(value)
    if key is None:
        return None
    return (_TRUE if value else _FALSE) if isinstance(value, bool) else key[1]


def row_of(fields: Sequence[str], document: Document, data: bytes) -> tuple[Any, ...]:
    """The parameters of ``upsert_sql``."""
    fixed = (document.partition, document.id, document.etag, document.expires_at, data.decode())
    return (*fixed, *[column_value(document.body.get(field)) for field in fields]) if fields else fixed


def fields_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """The fields that have a column now: another process, of a newer version, may have added some."""
    columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    return tuple(_field(column[1]) for column in columns[5:])


def create(connection: sqlite3.Connection, collection: Collection) -> None:
    """Make the table, its columns and its indexes where they are missing."""
    table = table_name(collection.name)
    connection.execute(
        f'CREATE TABLE IF NOT EXISTS "{table}" (partition TEXT NOT NULL, id TEXT NOT NULL, etag TEXT NOT NULL, '
        "expires_at REAL, body TEXT NOT NULL, UNIQUE (partition, id))"
    )
    connection.execute(
        f'CREATE INDEX IF NOT EXISTS "{table}:expiry" ON "{table}" (expires_at) WHERE expires_at IS NOT NULL'
    )
    present = set(fields_of(connection, table))
    added = [f for f in dict.fromkeys(f for index in collection.indexes for f in index) if f not in present]
    for field in added:
        connection.execute(f'ALTER TABLE "{table}" ADD COLUMN "{_column(field)}"')
    if added:
        _fill(connection, table, added)
    for index in collection.indexes:
        columns = [_column(field) for field in index]
        listed = ", ".join(f'"{column}"' for column in columns)
        connection.execute(
            f'CREATE INDEX IF NOT EXISTS "{table}:{",".join(columns)}" ON "{table}" ({listed}, partition, id) '
            f'WHERE "{columns[0]}" IS NOT NULL'
        )


def _fill(connection: sqlite3.Connection, table: str, fields: Sequence[str]) -> None:
    assignments = ", ".join(f'"{_column(field)}" = ?' for field in fields)
    last = 0
    while rows := connection.execute(
        f'SELECT rowid, body FROM "{table}" WHERE rowid > ? ORDER BY rowid LIMIT {_BACKFILL_ROWS}', (last,)
    ).fetchall():
        values = []
        for rowid, text in rows:
            body = msgspec.json.decode(text)
            values.append((*[column_value(body.get(field)) for field in fields], rowid))
        connection.executemany(f'UPDATE "{table}" SET {assignments} WHERE rowid = ?', values)
        last = rows[-1][0]


@functools.lru_cache(maxsize=256)
def upsert_sql(table: str, fields: tuple[str, ...], create_only: bool = False) -> str:
    """Write a row; with ``create_only`` (one more parameter: the time) only where none lives."""
    columns = ["partition", "id", "etag", "expires_at", "body", *(f'"{_column(field)}"' for field in fields)]
    marks = ", ".join("?" for _ in columns)
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns[2:])
    where = f' WHERE "{table}".expires_at <= ?' if create_only else ""
    return (
        f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({marks}) '
        f"ON CONFLICT (partition, id) DO UPDATE SET {changes}{where}"
    )


@functools.lru_cache(maxsize=256)
def prune_sql(table: str) -> str:
    """Delete some rows that have expired by the time given; a few at a time, so that nobody waits for it."""
    return (
        f'DELETE FROM "{table}" WHERE rowid IN '
        f'(SELECT rowid FROM "{table}" WHERE expires_at <= ? ORDER BY expires_at LIMIT 200)'
    )


def query_sql(table: str, query: Query, now: float) -> tuple[str, list[Any]] | None:
    """The statement for one page and one row more, or None when nothing can match."""
    where, values = ["(expires_at IS NULL OR expires_at > ?)"], [now]
    parameters: list[Any] = values
    if query.partition is not None:
        where.append("partition = ?")
        parameters.append(query.partition)
    for condition in query.where:
        value = column_value(condition.value)
        if value is None:
            return None
        column = f'"{_column(condition.field)}"'
        where.append(f"{column} {'=' if condition.op == '==' else condition.op} ?")
        parameters.append(value)
        where.extend(_same_kind(column, condition.op, value))
    order = ["partition", "id"]
    if query.order_by is not None:
        column = f'"{_column(query.order_by)}"'
        where.append(f"{column} IS NOT NULL")
        order.insert(0, column)
    if query.cursor is not None:
        key, partition, id = decode_cursor(query.cursor, query.order_by)
        after = [partition, id] if key is None else [column_value(key[1]), partition, id]
        where.append(f"({', '.join(order)}) {'<' if query.descending else '>'} ({', '.join('?' for _ in order)})")
        parameters.extend(after)
    direction = " DESC" if query.descending else ""
    parameters.append(query.limit + 1)
    return (
        f'SELECT partition, id, body, etag, expires_at FROM "{table}" WHERE {" AND ".join(where)} '
        f"ORDER BY {', '.join(name + direction for name in order)} LIMIT ?",
        parameters,
    )


def _same_kind(column: str, op: str, value: Any) -> list[str]:
    """Keep a range within the kind of its value: SQLite sorts all numbers before all text before all blobs."""
    if op in (">", ">="):
        if isinstance(value, str):
            return [f"{column} < x''"]
        return [] if isinstance(value, bytes) else [f"{column} < ''"]
    if op in ("<", "<="):
        if isinstance(value, str):
            return [f"{column} >= ''"]
        return [f"{column} >= x''"] if isinstance(value, bytes) else []
    return []
