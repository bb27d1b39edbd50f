"""Blob names as file names: safe on every file system, readable where possible, never the same for two blobs."""

from __future__ import annotations

import hashlib
import re

__all__ = ["SUFFIX", "file_name", "name_in"]

SUFFIX = ".blob"
_UNSAFE = re.compile(rb"[^a-z0-9_.-]")
_LONGEST = 200
_SHOWN = 120


def file_name(name: str) -> str:
    """The file of a blob. Capitals are escaped too: some file systems do not tell them from small letters."""
    escaped = _UNSAFE.sub(lambda found: b"%%%02x" % found[0][0], name.encode()).decode()
    if escaped.startswith("."):
        escaped = f"%2e{escaped[1:]}"
    if len(escaped) > _LONGEST:
        # "~" is always escaped, so no short name looks like this.
        escaped = f"{escaped[:_SHOWN]}~{hashlib.sha256(name.encode()).hexdigest()}"
    return escaped + SUFFIX


def name_in(file: str) -> str | None:
    """The blob's name, or None when it was too long for its file's name and stands in the file only."""
    escaped = file.removesuffix(SUFFIX)
    if "~" in escaped:
        return None
    raw = re.sub(rb"%([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), escaped.encode())
    return raw.decode()
