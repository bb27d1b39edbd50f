"""Bodies with holes: chunks put together, gzip undone."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left, bisect_right
from typing import Self

import msgspec

from loom.errors import VerificationLimitError
from loom.ports import AuthenticatedBytes

__all__ = ["MAX_BODY", "Piece", "dechunked", "decoded"]

MAX_BODY = 2 * 2**20
"""Bytes to which gzip may unfold a body."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[\x20-\x7e\t]*)?")


def _start(found: tuple[int, int]) -> int:
    return found[0]


def _end(found: tuple[int, int]) -> int:
    return found[1]


class Piece(msgspec.Struct, frozen=True):
    """Bytes, and the ranges of them that are withheld (zeros)."""

    data: bytes
    redacted: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, part: AuthenticatedBytes, start: int, end: int) -> Self:
        """A part of one direction."""
        return cls(part.data, part.redacted).between(start, end)

    def between(self, start: int, end: int) -> Self:
        """The bytes from ``start`` to ``end``."""
        kept = ((max(a, start) - start, min(b, end) - start) for a, b in self._holes(start, end))
        return type(self)(self.data[start:end], tuple((a, b) for a, b in kept if a < b))

    def _holes(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """The ranges that reach between; found by halving, as there may be as many as bytes."""
        first = bisect_right(self.redacted, start, key=_end)
        return self.redacted[first : bisect_left(self.redacted, end, key=_start)]

    def cut(self, length: int) -> Self:
        """At most the first ``length`` bytes."""
        return self.between(0, min(length, len(self.data)))

    def covers(self, start: int, end: int) -> bool:
        """Whether nothing between is withheld."""
        return start >= end or not self._holes(start, end)


def dechunked(piece: Piece) -> tuple[Piece, bool] | None:
    """The content of a chunked body, and whether its end is there. None where a chunk's size is withheld or wrong."""
    data: list[bytes] = []
    redacted: list[tuple[int, int]] = []
    position = length = 0
    while True:
        stop = piece.data.find(b"\r\n", position)
        if stop < 0 or not piece.covers(position, stop + 2):
            return None
        size_line = _SIZE.fullmatch(piece.data[position:stop])
        if size_line is None:
            return None
        size = int(size_line[1], 16)
        start, end = stop + 2, stop + 2 + size
        if size == 0:
            return Piece(b"".join(data), tuple(redacted)), True
        chunk = piece.between(start, min(end, len(piece.data)))
        data.append(chunk.data)
        redacted += [(a + length, b + length) for a, b in chunk.redacted]
        length += len(chunk.data)
        if end >= len(piece.data):
            return Piece(b"".join(data), tuple(redacted)), False
        if piece.data[end : end + 2] != b"\r\n" or not piece.covers(end, end + 2):
            return None
        position = end + 2


def decoded(piece: Piece, encodings: list[str | None], *, whole: bool) -> Piece | None:
    """The content without its coding. None for a coding that is withheld, unknown, or cannot be undone here.

    Raises VerificationLimitError for gzip that unfolds to more than MAX_BODY.
    """
    names = {(text or "?").strip().lower() for text in encodings} - {"identity"}
    if not names:
        return piece
    if names - {"gzip", "x-gzip"} or len(encodings) > 1 or piece.redacted or not whole:
        return None
    unpacker = zlib.decompressobj(31)
    try:
        content = unpacker.decompress(piece.data, MAX_BODY)
    except zlib.error:
        return None
    if unpacker.unconsumed_tail:
        raise VerificationLimitError(f"the body unfolds to more than {MAX_BODY} bytes by gzip", limit=MAX_BODY)
    return Piece(content) if unpacker.eof and not unpacker.unused_data else None
