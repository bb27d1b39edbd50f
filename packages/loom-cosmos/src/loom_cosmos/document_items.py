"""A document as an item: its body, and beside it in plain properties what queries look at.

``pk`` is the partition (namespace, collection, partition), ``c`` the collection, ``o`` the order of (partition, id),
``f_FIELD`` the sortable value of a top-level field, ``exp`` the moment from which it is gone. ``p`` and ``i`` are the
names as they were given. Fields are written whether or not they are declared as an index, as far as they are small:
then an index that is declared later covers what was there, and what clients write that know nothing of it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection as Names
from typing import Any

import msgspec

from loom.ports.documents import Document

from .client import Item
from .names import field_property, item_id, order_key
from .values import encode_value

__all__ = ["MAX_BODY_BYTES", "document_of", "expired", "item_names", "item_of", "server_etag"]

MAX_BODY_BYTES = 1_400_000
"""As base64 with names and fields beside it this stays below the 2 MB of an item."""

_UNDECLARED_BYTES = 16 * 1024
_MOST_NATIVE = 256 * 1024
_DEEPEST = 100
_EXACT = 2**53
_TTL_MARGIN = 3600
"""Seconds by which the account may delete later than a document expires: its clock is another than ours, and expired
documents are left out by us anyway."""


class _NotFaithful(Exception):
    pass


def item_of(
    names: tuple[str, str, str], partition: str, id: str, data: bytes, body: dict[str, Any], *, declared: Names[str],
    expires_at: float | None, now: float,
) -> Item:  # fmt: skip
    """The item of a body whose JSON is ``data``. ``names`` are its id, ``pk`` and ``c``."""
    item: Item = {
        "id": names[0],
        "pk": names[1],
        "c": names[2],
        "p": partition,
        "i": id,
        "o": order_key(partition, id),
        **_fields(body, declared),
    }
    if _faithful(data):
        item["body"] = body
    else:
        item["packed"] = base64.b64encode(data).decode()
    if expires_at is not None:
        item["exp"] = expires_at
        item["ttl"] = min(math.ceil(expires_at - now) + _TTL_MARGIN, 2**31 - 1)
    return item


def document_of(item: Item) -> Document:
    """The document that ``item_of`` has stored."""
    packed = item.get("packed")
    body = item["body"] if packed is None else msgspec.json.decode(base64.b64decode(packed))
    expires_at = None if item.get("exp") is None else float(item["exp"])
    return Document(item["p"], item["i"], body, _etag_of(item["_etag"], expires_at), expires_at)


def _etag_of(etag: str, expires_at: float | None) -> str:
    """The ETag that users see: the account's, and the moment from which it is good for nothing.

    With it a condition on a document that has expired is refused without a look, though the account still has it.
    """
    return etag if expires_at is None else f"{etag}@{expires_at!r}"


def server_etag(etag: str, now: float) -> str | None:
    """The account's ETag in one that users have; None for what can match nothing: one of a document that has expired,
    or text that is no ETag, which the account might take for no condition at all.
    """
    if not etag.startswith('"'):
        return None
    plain, mark, moment = etag.rpartition("@")
    if not mark:
        return etag
    try:
        return plain if float(moment) > now else None
    except ValueError:
        return None


def expired(item: Item, now: float) -> bool:
    """Whether the item is one that nobody may see any more."""
    return "exp" in item and bool(item["exp"] <= now)


def item_names(namespace: str, collection: str, id: str, pk: str) -> tuple[str, str, str]:
    """Id, ``pk`` and ``c`` of a document."""
    return item_id(id), pk, f"{namespace}:{collection}"


def _fields(body: dict[str, Any], declared: Names[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    room = _UNDECLARED_BYTES
    for field, value in body.items():
        encoded = encode_value(value)
        if encoded is None:
            continue
        name = field_property(field)
        if field not in declared:
            if len(name) + len(encoded) > room:
                continue
            room -= len(name) + len(encoded)
        found[name] = encoded
    return found


def _faithful(data: bytes) -> bool:
    """Whether Cosmos gives the JSON back as it is: its numbers are doubles, so 1.0 becomes 1 and 2^53 + 1 another."""
    if len(data) > _MOST_NATIVE or b'"":' in data or b"\\u0000" in data:
        return False
    if data.count(b"{") + data.count(b"[") > _DEEPEST and _depth(data) > _DEEPEST:
        return False
    try:
        json.loads(data, parse_int=_check_int, parse_float=_check_float)
    except _NotFaithful:
        return False
    return True


def _check_int(text: str) -> int:
    value = int(text)
    if not -_EXACT <= value <= _EXACT:
        raise _NotFaithful
    return value


def _check_float(text: str) -> float:
    value = float(text)
    if value.is_integer():
        raise _NotFaithful
    return value


def _depth(data: bytes) -> int:
    depth = deepest = 0
    in_text = escaped = False
    for byte in data:
        if in_text:
            in_text = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            in_text = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
