"""HTTP/1.1 (RFC 9112) out of bytes of which some are withheld.

Strict where lenience would let a prover choose the reading: bare CR, LF or NUL, folded lines, spaces before a colon,
two framings at once make a message unreadable. Whatever follows a redaction within the head is uncertain, and says so.
"""

from __future__ import annotations

import re
from typing import Any

from loom.ports import AuthenticatedBytes, HttpHeader, HttpMessage

from .body import Piece, dechunked, decoded

__all__ = ["host_of_target", "parse_request", "parse_response"]

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.[01]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MOST_HEADERS = 1000
_MOST_INTERIM = 10


class _Malformed(Exception):
    """What is proven is no HTTP/1.1."""


class _Head:
    """The lines up to the empty one. ``end`` is where the body begins, None where no end is seen."""

    def __init__(self, part: AuthenticatedBytes, start: int) -> None:
        self._part = part
        self.first = b""
        self.headers: list[HttpHeader] = []
        self.end: int | None = None
        gap = next((a for a, b in part.redacted if b > start), len(part.data))
        position = start
        while len(self.headers) <= _MOST_HEADERS:
            stop = part.data.find(b"\r\n", position)
            if stop < 0 or not part.covers(stop, stop + 2):
                return
            if position == start:
                if not part.covers(start, stop):
                    return
                self.first = part.data[start:stop]
            elif stop == position:
                self.end = stop + 2
                self.certain = self.end <= gap
                return
            else:
                self._header(position, stop, certain=stop + 2 <= gap)
            position = stop + 2
        raise _Malformed

    certain = False
    """Whether nothing of the head is redacted."""

    def _header(self, start: int, stop: int, *, certain: bool) -> None:
        line = self._part.data[start:stop]
        whole = self._part.covers(start, stop)
        name, colon, value = line.partition(b":")
        known = bool(colon) and self._part.covers(start - 2, start + len(name) + 1) and bool(_NAME.fullmatch(name))
        if not whole:
            if known:
                self.headers.append(HttpHeader(name.decode("ascii"), None, False))
            return
        if known and not _BAD_VALUE.search(value):
            self.headers.append(HttpHeader(name.decode("ascii"), value.strip(b" \t").decode("latin-1"), certain))
        elif certain:
            raise _Malformed
        # An uncertain line that is no header may be the body's.

    def values(self, name: str) -> list[str | None]:
        return [header.value for header in self.headers if header.name.lower() == name]


def parse_request(part: AuthenticatedBytes) -> HttpMessage | None:
    """The first request, or None where what is proven at its beginning is no HTTP/1.1."""
    try:
        head = _Head(part, 0)
        line = _REQUEST_LINE.fullmatch(head.first)
        if line is None:
            return None
        method, target = line[1].decode("ascii"), line[2].decode("ascii")
        body = _body(part, head, empty_without_length=True)
    except _Malformed:
        return None
    return HttpMessage(method=method, target=target, headers=tuple(head.headers), **body)


def parse_response(part: AuthenticatedBytes, method: str | None) -> HttpMessage | None:
    """The answer to the first request, ``method`` being that one's; interim answers (1xx) are passed over."""
    start = 0
    try:
        for _ in range(_MOST_INTERIM):
            head = _Head(part, start)
            line = _STATUS_LINE.fullmatch(head.first)
            if line is None:
                return None
            status = int(line[1])
            if not 100 <= status < 200 or status == 101:
                break
            if head.end is None or not head.certain:
                return None
            start = head.end
        else:
            return None
        if method == "HEAD" or status in (101, 204, 304):
            body: dict[str, Any] = {}
        else:
            body = _body(part, head, empty_without_length=False)
    except _Malformed:
        return None
    return HttpMessage(status=status, headers=tuple(head.headers), **body)


def _body(part: AuthenticatedBytes, head: _Head, *, empty_without_length: bool) -> dict[str, Any]:
    if head.end is None:
        return {}
    codings, lengths = head.values("transfer-encoding"), head.values("content-length")
    if (codings and lengths) or len(codings) > 1 or len(set(lengths)) > 1:
        raise _Malformed
    rest = Piece.of(part, head.end, len(part.data))
    whole = framed = True
    if codings:
        if (codings[0] or "").lower() != "chunked":
            return {}
        found = dechunked(rest)
        if found is None:
            return {}
        rest, whole = found
    elif lengths:
        text = lengths[0] or ""
        if not re.fullmatch(r"[0-9]{1,18}", text):
            if lengths[0] is None:
                return {}
            raise _Malformed
        whole = int(text) <= len(rest.data)
        rest = rest.cut(int(text))
    elif empty_without_length and head.certain:
        return {}
    else:
        framed = False  # it ends where the session does, and when that is the prover may have decided
    encodings = head.values("content-encoding")
    content = decoded(rest, encodings, whole=whole)
    if content is None:
        return {}
    return {"body": content.data, "body_redacted": content.redacted, "body_certain": head.certain and whole and framed}


def host_of_target(target: str | None) -> str | None:
    """The authority of a target in absolute form (``GET http://host/ …``), which counts before the Host header."""
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)", target or "")
    return found[1] if found else None
