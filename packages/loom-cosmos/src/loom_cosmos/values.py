"""Values of fields as text that sorts as they do: numbers before text before booleans, in printable ASCII.

Cosmos keeps numbers as doubles, so an integer beyond 2^53 would be taken for its neighbour. A number is stored as the
nearest double in sortable form and what the double leaves over.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

from loom.adapters.document_rules import comparable
from loom.ports.documents import Condition

from .names import ordered

__all__ = ["SORTED_BYTES", "Bound", "bounds", "encode_value"]

SORTED_BYTES = 1024
"""Text sorts by its first so many bytes of UTF-8. Longer text is told apart, and is equal only to itself, by a hash."""

_NUMBER, _TEXT, _BOOL = "n", "t", "x"
_AFTER = {_NUMBER: "o", _TEXT: "u", _BOOL: "y"}
_TOP = 1 << 63
_DOUBLE = struct.Struct(">d")

Bound = tuple[str, str]
"""An operator of the query language, and the text to compare with."""


def encode_value(value: Any) -> str | None:
    """A value as it sorts; None for what no condition matches and no order shows."""
    key = comparable(value)
    if key is None:
        return None
    plain = key[1]
    if isinstance(plain, str):
        return _TEXT + _text(plain)
    if isinstance(plain, bool):
        return _BOOL + ("1" if plain else "0")
    near = float(plain)
    rest = plain - int(near) if isinstance(plain, int) else 0
    bits = int.from_bytes(_DOUBLE.pack(near + 0.0))  # + 0.0: there is no negative zero
    bits = bits ^ (_TOP * 2 - 1) if bits & _TOP else bits | _TOP
    return f"{_NUMBER}{bits:016x}{rest + 0x8000:04x}"


def bounds(conditions: Iterable[Condition]) -> list[Bound] | None:
    """What the stored text of one field must satisfy; None when no value meets the conditions."""
    found: list[Bound] = []
    for condition in conditions:
        value = encode_value(condition.value)
        if value is None:
            return None
        if condition.op == "==":
            found.append(("=", value))
            continue
        found.append((condition.op, value))
        # Values of another kind never match, so each bound is also one to its kind.
        kind = value[0]
        found.append(("<", _AFTER[kind]) if condition.op[0] == ">" else (">=", kind))
    return found


def _text(text: str) -> str:
    data = text.encode()
    if len(data) <= SORTED_BYTES:
        return ordered(text)
    # Cut at a character. The space before the hash is below everything: what is longer sorts after what is equal.
    head = data[:SORTED_BYTES].decode(errors="ignore")
    return f"{ordered(head)} {hashlib.sha256(data).hexdigest()}"
