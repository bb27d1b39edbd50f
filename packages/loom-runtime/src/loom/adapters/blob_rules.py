"""What every blob store decides in the same way: conditions, ranges, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BlobConflictError, BlobNotFoundError

__all__ = ["CHUNK", "check_condition", "check_limit", "check_metadata", "check_range", "missing"]

CHUNK = 2**20
"""The largest chunk of a stream, in bytes."""


def check_condition(name: str, found: str | None, if_match: str | None, create_only: bool) -> None:
    """Raise BlobConflictError unless the conditions hold on a blob of etag ``found`` (None: there is none)."""
    if create_only and if_match is not None:
        raise ValueError(f"{name!r}: create_only and if_match exclude each other")
    if if_match is not None and if_match != found:
        reason = "does not exist" if found is None else "was written by another since"
        raise BlobConflictError(f"blob {name!r}: if_match={if_match!r}, but it {reason}; read it again", name=name)
    if create_only and found is not None:
        raise BlobConflictError(f"blob {name!r}: create_only, but it exists already", name=name)


def check_metadata(name: str, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of the metadata. Raises ValueError unless all of it is text."""
    kept: dict[Any, Any] = dict(metadata or {})
    for key, value in kept.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(f"blob {name!r}: metadata {key!r}={value!r} is not text")
    return kept


def check_range(start: int, length: int | None) -> None:
    """Raise ValueError for a range that counts from the end or has a negative length."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"start={start}, length={length}: neither may be negative")


def check_limit(limit: int) -> None:
    """Raise ValueError unless a page may hold at least one blob."""
    if limit < 1:
        raise ValueError(f"limit={limit}: a page holds at least one blob")


def missing(name: str) -> BlobNotFoundError:
    """The error for a blob that does not exist."""
    return BlobNotFoundError(f"there is no blob {name!r}", name=name)
