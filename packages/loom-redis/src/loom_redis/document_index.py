"""How documents lie in a partition's sorted set: members whose bytes sort as the values do, and bounds among them.

One set with equal scores holds two kinds of members: a NUL and an id, for the order of ids; and for each index its
number, the values of its fields and an id. Redis compares members byte by byte. Text is UTF-8 with NUL escaped and
an end mark, so that no value is a prefix of another; a number is the nearest double as sortable bytes and what the
double leaves over, so that integers beyond 2^53 keep their order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from loom.adapters.document_rules import comparable
from loom.ports.documents import Condition

__all__ = ["AFTER", "BY_ID", "Fields", "encode_value", "expand", "members_of", "prefix", "value_range"]

Fields = tuple[str, ...]

BY_ID = b"\x00"
"""What a member of the order of ids begins with."""

AFTER = b"\xff"
"""Sorts after every id that may follow, for 0xFF is no byte of UTF-8."""

_NUMBER, _TEXT, _BOOL, _END = 0x10, 0x20, 0x30, 0x40
_TOP = 1 << 63
_DOUBLE, _SORTABLE, _SIZE, _INDEX = struct.Struct(">d"), struct.Struct(">BQH"), struct.Struct(">I"), struct.Struct(">H")


def expand(indexes: Iterable[Fields]) -> list[Fields]:
    """The indexes and their beginnings: a query by some of the fields finds one in exactly the order it wants."""
    return list(dict.fromkeys(index[:length] for index in indexes for length in range(1, len(index) + 1)))


def prefix(number: int) -> bytes:
    """What the members of index ``number`` begin with."""
    return _INDEX.pack(256 + number)


def encode_value(value: Any) -> bytes | None:
    """A value as it sorts; None for what no condition matches and no order shows."""
    key = comparable(value)
    if key is None:
        return None
    plain = key[1]
    if isinstance(plain, str):
        return b"%c%s\0\0" % (_TEXT, plain.encode("utf-8", "surrogatepass").replace(b"\0", b"\0\xff"))
    if isinstance(plain, bool):
        return bytes((_BOOL, plain))
    near = float(plain)
    rest = plain - int(near) if isinstance(plain, int) else 0
    [bits] = struct.unpack(">Q", _DOUBLE.pack(near + 0.0))  # + 0.0: there is no negative zero
    return _SORTABLE.pack(_NUMBER, bits ^ (_TOP * 2 - 1) if bits & _TOP else bits | _TOP, rest + 0x8000)


def members_of(schema: Sequence[Fields], body: dict[str, Any], id: str) -> bytes:
    """A document's members, each after its size. It is in the indexes of which it has every field."""
    known: dict[str, bytes | None] = {}
    packed: list[bytes] = []
    end = id.encode()
    for number, fields in enumerate(schema):
        values: list[bytes] = []
        for field in fields:
            if field not in known:
                known[field] = encode_value(body.get(field))
            value = known[field]
            if value is None:
                break
            values.append(value)
        else:
            member = b"".join((prefix(number), *values, end))
            packed += (_SIZE.pack(len(member)), member)
    return b"".join(packed)


def value_range(conditions: Iterable[Condition]) -> tuple[bytes, bool, bytes, bool] | None:
    """The values that meet all of these conditions on one field, as ``(low, included, high, included)``.

    Without conditions: all values. None when no value meets them.
    """
    low, low_in, high, high_in = b"", True, bytes((_END,)), False
    for condition in conditions:
        value = encode_value(condition.value)
        if value is None:
            return None
        # Values of another kind never match, so each bound is also one to its kind.
        first = (value, condition.op != ">") if condition.op in ("==", ">", ">=") else (value[:1], True)
        last = (value, condition.op != "<") if condition.op in ("==", "<", "<=") else (bytes((value[0] + 1,)), False)
        if first[0] > low or (first[0] == low and not first[1]):
            low, low_in = first
        if last[0] < high or (last[0] == high and not last[1]):
            high, high_in = last
    if low > high or (low == high and not (low_in and high_in)):
        return None
    return low, low_in, high, high_in
