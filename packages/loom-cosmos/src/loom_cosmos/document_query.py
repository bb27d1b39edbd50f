"""The query language's text for a page of documents."""

from __future__ import annotations

from typing import Any

import msgspec

from loom.adapters.document_rules import decode_cursor
from loom.ports.documents import Collection, Condition, Query

from .names import field_property, order_key
from .values import bounds, encode_value

__all__ = ["Ask", "ask_of"]


class Ask(msgspec.Struct, frozen=True):
    """A query as it is sent."""

    text: str
    parameters: dict[str, Any]


def ask_of(collection: Collection, query: Query, scope: tuple[str, str], now: float) -> Ask | None:
    """None when nothing can match. ``scope`` is the property and the value that all documents in question have.

    An index serves the query: ``check_indexed`` has said so. Raises ValueError for a cursor of another store or order.
    """
    cursor = None if query.cursor is None else decode_cursor(query.cursor, query.order_by)
    parameters: dict[str, Any] = {"@scope": scope[1], "@now": now}
    clauses = [f"c.{scope[0]} = @scope", "(NOT IS_DEFINED(c.exp) OR c.exp > @now)"]

    def compare(name: str, operator: str, value: Any) -> str:
        parameter = f"@v{len(parameters)}"
        parameters[parameter] = value
        return f"c.{name} {operator} {parameter}"

    groups: dict[str, list[Condition]] = {}
    for condition in query.where:
        groups.setdefault(condition.field, []).append(condition)
    for field, conditions in groups.items():
        found = bounds(conditions)
        if found is None:
            return None
        clauses += [compare(field_property(field), operator, value) for operator, value in found]
    order = [field_property(field) for field in _order(collection, query)]
    if query.order_by is not None:
        clauses.append(f"IS_DEFINED(c.{field_property(query.order_by)})")
    if cursor is not None:
        key, partition, id = cursor
        beyond = "<" if query.descending else ">"
        after = compare("o", beyond, order_key(partition, id))
        equal = {condition.field for condition in query.where if condition.op == "=="}
        if query.order_by is not None and key is not None and query.order_by not in equal:
            name, value = field_property(query.order_by), encode_value(key[1])
            clauses.append(f"{compare(name, f'{beyond}=', value)}")
            after = f"({compare(name, beyond, value)} OR {after})"
        clauses.append(after)
    direction = "DESC" if query.descending else "ASC"
    ordering = ", ".join(f"c.{name} {direction}" for name in [*order, "o"])
    return Ask(f"SELECT * FROM c WHERE {' AND '.join(clauses)} ORDER BY {ordering}", parameters)


def _order(collection: Collection, query: Query) -> list[str]:
    """The fields to order by: those compared for equality first, as the composite index has them, then the order."""
    equal = {condition.field for condition in query.where if condition.op == "=="}
    by_field = query.order_by is not None and query.order_by not in equal
    for index in collection.indexes:
        head, rest = index[: len(equal)], index[len(equal) :]
        if set(head) == equal and (not by_field or rest[:1] == (query.order_by,)):
            return [*head, *(rest[:1] if by_field else ())]
    return []
