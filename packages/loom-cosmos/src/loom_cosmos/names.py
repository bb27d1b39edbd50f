r"""Names as Cosmos DB takes them: ids and partition keys of any text, and text whose order as a string is ours.

An id of Cosmos may not hold ``/ \ ? #`` and not be longer than 255 characters (1,023 bytes). A name becomes letters,
digits, ``_`` and ``-``, with every other byte of its UTF-8 as ``~`` and two hexadecimal digits. One that is too long
becomes ``~h`` and its SHA-256; whoever stores it keeps the whole name in the item.

Which order Cosmos gives to text beyond ASCII is not documented, so what is sorted or compared is stored as printable
ASCII in which the order of characters is the order of code points.
"""

from __future__ import annotations

import hashlib

__all__ = ["field_property", "item_id", "order_key", "ordered", "partition_key"]

_LONGEST = 255
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_ID = tuple(chr(byte) if byte in _PLAIN else f"~{byte:02x}" for byte in range(256))
_FIELD = tuple(
    "__" if byte == 0x5F else chr(byte) if byte in _PLAIN - {0x2D} else f"_{byte:02x}" for byte in range(256)
)


def _ordered_byte(byte: int) -> str:
    # "!" is below and "~" above all that stands for itself, so that the escapes sort where their bytes do.
    if byte <= 0x21:
        return f"!{byte:02x}"
    return f"~{byte:02x}" if byte >= 0x7E else chr(byte)


_ORDERED = tuple(_ordered_byte(byte) for byte in range(256))


def item_id(name: str) -> str:
    """The id of a name: readable and reversible where it is short enough, else a hash."""
    data = name.encode()
    text = "".join(map(_ID.__getitem__, data))
    return text if len(text) <= _LONGEST else f"~h{hashlib.sha256(data).hexdigest()}"


def partition_key(namespace: str, kind: str, name: str) -> str:
    """The value of the partition key: one for each name, so that all of a partition lies together.

    ``namespace`` and ``kind`` hold no colon.
    """
    return f"{namespace}:{kind}:{item_id(name)}"


def ordered(name: str) -> str:
    """Printable ASCII without spaces that sorts as ``name`` does by code point."""
    return "".join(map(_ORDERED.__getitem__, name.encode()))


def order_key(partition: str, id: str) -> str:
    """Sorts as the pair does: a space is below every other character."""
    return f"{ordered(partition)} {ordered(id)}"


def field_property(field: str) -> str:
    """The property in which an item keeps the sortable value of a field: an identifier of the query language."""
    text = "".join(map(_FIELD.__getitem__, field.encode()))
    return f"f_{text}" if len(text) <= _LONGEST else f"h_{hashlib.sha256(field.encode()).hexdigest()}"
