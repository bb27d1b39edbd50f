"""What every document store decides in the same way: valid bodies and operations, how values compare, cursors."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..errors import DocumentConflictError, DocumentError, TooLargeError
from ..ports.documents import Collection, Condition, Document, Operation, Put, Query
from ..ports.port import check_key

__all__ = [
    "MAX_BATCH",
    "MAX_BODY_BYTES",
    "Key",
    "check_collection",
    "check_operations",
    "check_query",
    "comparable",
    "conflict",
    "decode_cursor",
    "encode_body",
    "encode_cursor",
    "matches",
    "merge",
    "missing",
]

MAX_BATCH = 100
MAX_BODY_BYTES = 16 * 2**20

Key = tuple[int, Any]
"""A value as it sorts: numbers before text before booleans; values of two kinds never match each other."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_NUMBER, _TEXT, _BOOL = 0, 1, 2
_INT64 = 2**63


def check_collection(collection: Collection) -> None:
    """Raise ValueError unless the name, the indexes and the TTL are what ``Collection`` allows."""
    if not _NAME.match(collection.name):
        raise ValueError(f"collection name {collection.name!r}: use lower case letters, digits and _")
    for index in collection.indexes:
        if not index or len(set(index)) != len(index) or not all(index):
            raise ValueError(f"collection {collection.name!r}: index {index!r} must name distinct fields, at least one")
    if collection.ttl is not None and not collection.ttl > 0:
        raise ValueError(f"collection {collection.name!r}: ttl={collection.ttl!r} must be positive or None")


def merge(known: Collection | None, wanted: Collection) -> Collection:
    """The collection after one more ``ensure``: indexes add up, the newest default TTL counts."""
    if known is None:
        return wanted
    return Collection(wanted.name, tuple(dict.fromkeys((*known.indexes, *wanted.indexes))), wanted.ttl)


def missing(collection: str) -> DocumentError:
    """The error for a collection that was not ensured."""
    return DocumentError(
        f"collection {collection!r} is unknown to this store; call ensure([Collection({collection!r}, …)]) first",
        collection=collection,
    )


def check_operations(collection: str, partition: str, operations: Sequence[Operation]) -> None:
    """Raise InvalidKeyError, ValueError or TooLargeError unless these are operations of one valid batch."""
    check_key("partition", partition)
    if len(operations) > MAX_BATCH:
        raise TooLargeError(
            f"a batch of {len(operations)} operations is larger than {MAX_BATCH}; split it",
            collection=collection,
            partition=partition,
        )
    for operation in operations:
        check_key("id", operation.id)
        if isinstance(operation, Put):
            if operation.create_only and operation.if_match is not None:
                raise ValueError(f"{operation.id!r}: create_only and if_match exclude each other")
            if operation.ttl is not None and not operation.ttl > 0:
                raise ValueError(f"{operation.id!r}: ttl={operation.ttl!r} must be positive or None")
    if len(operations) > 1 and len({operation.id for operation in operations}) < len(operations):
        raise ValueError(f"an id appears twice in one batch of {collection!r}; its operations have no order")


def encode_body(body: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The body as JSON, and a copy that shares nothing with it. Raises ValueError, TooLargeError.

    msgspec writes NaN as null, tuples as lists and integer keys as text, so what is read back is compared with what
    was given: C speed, where a walk in Python would cost more than all the rest of a put.
    """
    try:
        data = msgspec.json.encode(body)
        copy: dict[str, Any] = msgspec.json.decode(data)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"the body is not a JSON object: {error}") from error
    if type(copy) is not dict or copy != body:
        raise ValueError(
            "the body is not a JSON object as it stands: use a dict with str keys, and only str, int, finite float, "
            "bool, None, list and dict inside"
        )
    if len(data) > MAX_BODY_BYTES:
        raise TooLargeError(f"a body of {len(data)} bytes is larger than {MAX_BODY_BYTES}", size=len(data))
    return data, copy


def conflict(collection: str, partition: str, operation: Operation, found: str | None) -> DocumentConflictError | None:
    """The error if the operation's condition does not hold on a document of ETag ``found`` (None: there is none)."""
    if operation.if_match is not None and operation.if_match != found:
        reason = "does not exist" if found is None else "was written by another since"
        wish = f"if_match={operation.if_match!r}"
    elif isinstance(operation, Put) and operation.create_only and found is not None:
        reason, wish = "exists already", "create_only"
    else:
        return None
    return DocumentConflictError(
        f"{collection}/{partition}/{operation.id}: {wish}, but the document {reason}; read it again and decide anew",
        collection=collection,
        partition=partition,
        id=operation.id,
    )


def comparable(value: Any) -> Key | None:
    """How a field's value sorts and compares; None for what no condition matches and no order shows.

    Integers beyond 64 bits compare as the nearest float.
    """
    if isinstance(value, str):
        return (_TEXT, value)
    if isinstance(value, bool):
        return (_BOOL, value)
    if isinstance(value, int):
        return (_NUMBER, value if -_INT64 <= value < _INT64 else _nearest(value))
    if isinstance(value, float) and value == value:
        return (_NUMBER, value)
    return None


def _nearest(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -sys.float_info.max


def matches(body: dict[str, Any], where: Iterable[Condition]) -> bool:
    """Whether every condition holds."""
    for condition in where:
        have, want = comparable(body.get(condition.field)), comparable(condition.value)
        if have is None or want is None or have[0] != want[0] or not _holds(condition.op, have[1], want[1]):
            return False
    return True


def _holds(op: str, have: Any, want: Any) -> bool:
    if op == "==":
        return bool(have == want)
    if op == "<":
        return bool(have < want)
    if op == "<=":
        return bool(have <= want)
    return bool(have > want if op == ">" else have >= want)


def check_query(query: Query) -> None:
    """Raise InvalidKeyError or ValueError unless partition, limit and operators are valid."""
    if query.partition is not None:
        check_key("partition", query.partition)
    if query.limit < 1:
        raise ValueError(f"limit={query.limit}: a page holds at least one document")
    for condition in query.where:
        if condition.op not in ("==", "<", "<=", ">", ">="):
            raise ValueError(f"unknown operator {condition.op!r} in a condition on {condition.field!r}")


def encode_cursor(document: Document, order_by: str | None) -> str:
    """A cursor that continues after ``document``."""
    key = None if order_by is None else comparable(document.body.get(order_by))
    value = None if key is None else key[1]
    return base64.urlsafe_b64encode(msgspec.json.encode((value, document.partition, document.id))).decode()


def decode_cursor(cursor: str, order_by: str | None) -> tuple[Key | None, str, str]:
    """The order value, partition and id that ``encode_cursor`` was given. Raises ValueError."""
    try:
        value, partition, id = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor), type=tuple[str | int | float | bool | None, str, str]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError("the cursor is not one that this store gave") from error
    key = comparable(value)
    if (key is None) != (order_by is None):
        raise ValueError("the cursor belongs to a query with another order")
    return key, partition, id
