"""What is known of a blob, as Azure's properties and metadata hold it.

Azure's metadata is HTTP headers: 8 KiB, names like those of variables, values in ASCII. What fits stays as it is, so
that other tools see it; the rest (odd metadata, an odd content type, the name where the blob's own is cut) goes
together into one value, ``loom_more``: JSON, compressed, in base64. ``loom_write`` tells one write from another.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping

import msgspec
from azure.storage.blob import BlobProperties

from loom.errors import BlobError, TooLargeError
from loom.ports import BlobInfo

from .names import group_of

__all__ = ["Stored", "info_of", "stored_properties", "unquoted", "write_id"]

_MORE, _WRITE = "loom_more", "loom_write"
_MOST = 8000
_MOST_UNPACKED = 2**20
_DEFAULT_TYPE = "application/octet-stream"
_PLAIN_NAME = re.compile(r"(?!loom_)[a-z_][a-z0-9_]{0,99}")
# No run of spaces: how those are signed differs between implementations.
_PLAIN_VALUE = re.compile(r"[!-~]+( [!-~]+)*")


class _More(msgspec.Struct, omit_defaults=True):
    name: str = ""
    content_type: str | None = None
    metadata: dict[str, str] = {}


class Stored(msgspec.Struct, frozen=True):
    """What is sent with a blob's content."""

    content_type: str
    metadata: dict[str, str]


def stored_properties(name: str, encoded: str, content_type: str, metadata: Mapping[str, str], write: str) -> Stored:
    """What to send for a write. Raises TooLargeError when it exceeds the 8 KiB that Azure holds of it."""
    more = _More()
    if group_of(encoded) is not None:
        more.name = name
    plain = {_WRITE: write}
    for key, value in metadata.items():
        if _PLAIN_NAME.fullmatch(key) and _PLAIN_VALUE.fullmatch(value):
            plain[key] = value
        else:
            more.metadata[key] = value
    sent_type = content_type
    if not _PLAIN_VALUE.fullmatch(content_type) or len(content_type) > 200:
        more.content_type, sent_type = content_type, _DEFAULT_TYPE
    if more != _More():
        plain[_MORE] = base64.urlsafe_b64encode(zlib.compress(msgspec.json.encode(more), 9)).decode()
    size = sum(len(key) + len(value) for key, value in plain.items())
    if size > _MOST:
        raise TooLargeError(
            f"blob {name[:80]!r}: its metadata (and its name, where that is long) takes {size} bytes, and Azure holds "
            f"{_MOST}; store it in a blob of its own",
            name=name,
            size=size,
        )
    return Stored(sent_type, plain)


def info_of(name: str | None, encoded: str, properties: BlobProperties) -> BlobInfo:
    """What is known of a blob; ``name`` is None where it stands in the metadata. Raises BlobError where it is damaged.

    Of blobs that other programs wrote, all metadata is shown as it is.
    """
    metadata = dict(properties.metadata or {})
    metadata.pop(_WRITE, None)
    packed = metadata.pop(_MORE, None)
    more = _unpacked(encoded, packed) if packed is not None else _More()
    name = name or more.name
    if not name:
        raise BlobError(
            f"the blob {encoded[:80]!r} lacks its own name in {_MORE!r}; restore its metadata", blob=encoded
        )
    sent_type = properties.content_settings.content_type or _DEFAULT_TYPE
    return BlobInfo(
        name=name,
        size=properties.size,
        etag=unquoted(properties.etag),
        modified_at=properties.last_modified.timestamp(),
        content_type=sent_type if more.content_type is None else more.content_type,
        metadata={**metadata, **more.metadata},
    )


def write_id(properties: BlobProperties) -> str:
    """Which write made this version; empty where another program did."""
    return (properties.metadata or {}).get(_WRITE, "")


def unquoted(etag: str) -> str:
    """The etag as listings show it; requests and answers put it in quotes."""
    return etag.strip('"')


def _unpacked(encoded: str, packed: str) -> _More:
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.urlsafe_b64decode(packed), _MOST_UNPACKED)
        return msgspec.json.decode(raw, type=_More)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise BlobError(
            f"the blob {encoded[:80]!r} has damaged metadata ({_MORE}: {error}); restore it", blob=encoded
        ) from error
