"""Which index answers a query, and between which of its members."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from loom.adapters.document_rules import Key, decode_cursor
from loom.ports.documents import Condition, Query

from .document_index import AFTER, BY_ID, Fields, encode_value, prefix, value_range

__all__ = ["Bounds", "Cursor", "Plan", "cursor_of", "plan_of"]

Cursor = tuple[Key | None, str, str]
Bounds = tuple[bytes, bytes]
"""The first and the last member in the order of walking, as ``ZRANGE … BYLEX`` takes them."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``head`` is what every wanted member begins with.

    ``valued`` says that an ordered value follows before the id, within ``values``; ``by_value`` that the query wants
    that order. Where it does not, what is found must be sorted by id.
    """

    head: bytes
    valued: bool
    by_value: bool
    values: tuple[bytes, bool, bytes, bool]
    backwards: bool

    @property
    def sorted_by_id(self) -> bool:
        """Whether the order of the members is not the order wanted."""
        return self.valued and not self.by_value

    def bounds(self, partition: str, cursor: Cursor | None) -> Bounds:
        """What is to be read of a partition, after the cursor."""
        head = self.head
        first, last = b"[" + head, b"(" + head + AFTER
        if self.valued:
            low, low_in, high, high_in = self.values
            first = b"[" + head + low + (b"" if low_in else AFTER)
            last = b"(" + head + high + (AFTER if high_in else b"")
        if cursor is not None and not self.sorted_by_id:
            after = self._after(partition, cursor)
            if self.backwards:
                last = min(last, after, key=lambda bound: bound[1:])
            else:
                first = max(first, after, key=lambda bound: bound[1:])
        return (last, first) if self.backwards else (first, last)

    def _after(self, partition: str, cursor: Cursor) -> bytes:
        value, at, id = cursor
        base = self.head
        if self.by_value and value is not None:
            base += encode_value(value[1]) or b""
        if partition == at:
            return b"(" + base + id.encode()
        # Ties go by partition: one that comes before the cursor's has had its turn at this value, one after it has not.
        return b"(" + base + (AFTER if partition < at else b"")


def plan_of(schema: Sequence[Fields], query: Query) -> Plan | None:
    """None when nothing can match. An index serves the query: ``check_indexed`` has said so."""
    groups: dict[str, list[Condition]] = {}
    for condition in query.where:
        groups.setdefault(condition.field, []).append(condition)
    ranges = {field: value_range(conditions) for field, conditions in groups.items()}
    equal = {condition.field for condition in query.where if condition.op == "=="}
    ranged = [field for field in groups if field not in equal]
    by_value = query.order_by is not None and query.order_by not in equal
    if by_value and query.order_by is not None and query.order_by not in ranged:
        ranged.append(query.order_by)
        ranges[query.order_by] = value_range(())
    head, values = BY_ID, value_range(())
    if equal or ranged:
        fields = next(f for f in schema if set(f[: len(equal)]) == equal and list(f[len(equal) :]) == ranged)
        head = prefix(schema.index(fields))
        for field in fields[: len(equal)]:
            found = ranges[field]
            if found is None:
                return None
            head += found[0]
        if ranged:
            values = ranges[ranged[0]]
    if values is None:
        return None
    return Plan(head=head, valued=bool(ranged), by_value=by_value, values=values, backwards=query.descending)


def cursor_of(query: Query) -> Cursor | None:
    """Where to go on. Raises ValueError for a cursor of another store or another order."""
    return None if query.cursor is None else decode_cursor(query.cursor, query.order_by)
