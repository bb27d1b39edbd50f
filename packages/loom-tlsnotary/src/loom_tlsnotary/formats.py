"""Which version of TLSNotary wrote a presentation, so that a refusal can say so. Nothing is decided by it."""

from __future__ import annotations

import struct

__all__ = ["describe"]


def describe(data: bytes, protocol: str, reason: object) -> str:
    """Why ``data`` is refused: the format that it seems to have, and what the module said."""
    seems = _guess(data)
    said = f" (the module: {str(reason)[:200]})" if reason else ""
    return f"this is no presentation by {protocol}: it {seems}{said}"


def _guess(data: bytes) -> str:
    if not data:
        return "is empty"
    if data.lstrip()[:1] in (b"{", b"["):
        return "is JSON text, as TLSNotary wrote before 0.1.0-alpha.6, or a wrapper that holds the presentation"
    reader = _Reader(data)
    try:
        _common_head(reader)
    except (struct.error, ValueError):
        return "does not begin like a presentation"
    rest = data[reader.position :]
    # alpha.11 has a list of extensions here, alpha.10 an optional encoding commitment with its field number.
    if rest[:1] in (b"\0", b"\1") and rest[1:5] == b"\4\0\0\0":
        return "has the format of TLSNotary 0.1.0-alpha.10, which alpha.11 ended; its notary must be upgraded"
    if len(rest) >= 8 and struct.unpack("<Q", rest[:8])[0] < 2**16:
        return "begins like one and is damaged or cut off"
    return "begins like a presentation and goes on like none that is known: of another version, or damaged"


def _common_head(reader: _Reader) -> None:
    """Signature, header, and the fields that every binary format begins with (bincode 1, fixed integers)."""
    reader.skip(1)
    reader.bytes(64)
    reader.skip(16 + 4)
    reader.hash()
    reader.field(0)
    reader.skip(1)
    reader.bytes(33)
    reader.field(1)
    reader.skip(8 + 4 + 4 + 4)
    reader.field(2)
    reader.skip(4)
    reader.bytes(65)
    reader.field(3)
    reader.hash()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self._data):
            raise ValueError

    def bytes(self, length: int) -> None:
        if struct.unpack_from("<Q", self._data, self.position)[0] != length:
            raise ValueError
        self.skip(8 + length)

    def hash(self) -> None:
        self.skip(1)
        self.bytes(32)

    def field(self, number: int) -> None:
        if struct.unpack_from("<I", self._data, self.position)[0] != number:
            raise ValueError
        self.skip(4)
