"""Blob names as Azure holds them: encoded in ASCII, in the same order, and never the same for two names.

Azure takes 1,024 characters of a name and 254 segments between slashes, alters backslashes, and warns of names and
segments that end in a dot or a slash. So a name is written byte by byte (UTF-8, whose order is that of code points):

- letters, digits, ``-`` and ``_`` stay as they are, and so do ``.`` and ``/`` where they do no harm;
- any other byte is two hexadecimal digits after one of ``!``, ``=``, ``^``, a backquote or ``~``: the one that sorts
  where the byte does. ``a b`` is ``a!20b``, ``é`` is ``~c3~a9``;
- where a dot or a slash comes first, or after a slash or a dot, a dot is ``.e`` and a slash ``.f``;
- a name that then ends in a dot or a slash gets ``!`` behind it;
- what is longer than LONGEST or deeper than DEEPEST is cut there, with ``!!`` and the SHA-256 of the name behind it.
  The name itself then stands in the metadata. All names cut at the same place stand together, in the order of their
  hashes, which a listing has to put right.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["DEEPEST", "LONGEST", "decode", "encode", "group_of", "prefix_of"]

LONGEST = 800
"""Characters of an encoded name that stand as they are; with the hash and a namespace they stay below 1,024."""

DEEPEST = 120
"""Slashes of an encoded name that stand as they are."""

_CUT = re.compile(r"!![0-9a-f]{64}\Z")
_SAFE = frozenset(b"-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DOT, _SLASH = ord("."), ord("/")


def encode(name: str) -> str:
    """The name of the blob in its container, of at most LONGEST + 66 characters."""
    body, delicate = _body(name)
    kept = _kept(body)
    if len(kept) < len(body):
        return f"{kept}!!{hashlib.sha256(name.encode()).hexdigest()}"
    return f"{body}!" if delicate else body


def prefix_of(prefix: str) -> str:
    """What the encoded forms of all names that begin with ``prefix`` begin with; others may begin so too."""
    return _kept(_body(prefix)[0])


def group_of(encoded: str) -> str | None:
    """Where a cut name was cut: what all names share that were cut at the same place. None for a name in full."""
    return encoded[: found.start()] if (found := _CUT.search(encoded)) else None


def decode(encoded: str) -> str | None:
    """The name, or None for one that was cut or that ``encode`` never makes: another program's blob."""
    if _CUT.search(encoded):
        return None
    body = encoded[:-1] if encoded.endswith(("!", ".!", "/!")) else encoded
    raw = bytearray()
    position, delicate = 0, True
    while position < len(body):
        mark = body[position]
        width = 3 if mark in "!=^`~" else 2 if mark == "." and delicate else 1
        code = body[position + 1 : position + width]
        try:
            if width == 3:
                raw.append(int(code, 16))
            elif width == 2:
                raw.append({"e": _DOT, "f": _SLASH}[code])
            else:
                raw += mark.encode("ascii")
        except (KeyError, ValueError):
            return None
        delicate = width == 1 and mark in "./"
        position += width
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    return name if name and encode(name) == encoded else None


def _body(name: str) -> tuple[str, bool]:
    """The name in full, and whether it ends where neither a dot nor a slash may."""
    parts: list[str] = []
    delicate = True  # at the start, and after a literal dot or slash
    for byte in name.encode():
        if byte in _SAFE:
            parts.append(chr(byte))
        elif byte not in (_DOT, _SLASH):
            parts.append(f"{_mark(byte)}{byte:02x}")
        elif delicate:
            parts.append(".e" if byte == _DOT else ".f")
            delicate = False
            continue
        else:
            parts.append(chr(byte))
            delicate = True
            continue
        delicate = False
    return "".join(parts), delicate and bool(parts)


def _mark(byte: int) -> str:
    """The character that sorts between the same safe characters as the byte."""
    if byte < ord("-"):
        return "!"
    if byte <= ord("@"):
        return "="
    if byte <= ord("^"):
        return "^"
    return "`" if byte == ord("`") else "~"


def _kept(body: str) -> str:
    """The part that is not cut. Where it ends depends on itself alone, so that what is cut alike stands together."""
    slashes = [found.start() for found in re.finditer("/", body[:LONGEST])]
    return body[: slashes[DEEPEST] + 1] if len(slashes) > DEEPEST else body[:LONGEST]
