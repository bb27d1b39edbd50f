"""Items of a stream: the head, the snapshot, and an item for each entry, all in one logical partition."""

from __future__ import annotations

import base64
import zlib

import msgspec

from loom.errors import CorruptEntryError
from loom.ports.journal import Append, Head, JournalEntry, Snapshot

from .client import Item
from .names import ordered

__all__ = [
    "HEAD",
    "MAX_DATA_BYTES",
    "SNAPSHOT",
    "Stood",
    "corrupt",
    "entry_id",
    "entry_of",
    "item_of_entry",
    "item_of_head",
    "item_of_snapshot",
    "snapshot_of",
    "stood_of",
]

HEAD, SNAPSHOT = "head", "snapshot"

MAX_DATA_BYTES = 1_400_000
"""As base64, with the head beside it, this stays below the 2 MB of a transactional batch."""


class Stood(msgspec.Struct, frozen=True):
    """A head as it was found: with its ETag, "" where there was none, and the position through which was trimmed."""

    head: Head
    etag: str = ""
    trimmed: int = 0


def entry_id(seq: int) -> str:
    """The id of the entry at a position."""
    return f"e{seq}"


def item_of_head(pk: str, namespace: str, stream: str, head: Head, trimmed: int) -> Item:
    """``ns`` and ``s`` make the heads the list of streams: a stream is listed exactly if it has one."""
    return {
        "id": HEAD,
        "pk": pk,
        "ns": namespace,
        "s": ordered(stream),
        "stream": stream,
        "seq": head.seq,
        "entry_id": head.entry_id,
        "fence": head.fence,
        "snapshot_seq": head.snapshot_seq,
        "trimmed": trimmed,
    }


def stood_of(item: Item | None) -> Stood:
    """What ``item_of_head`` has stored; an empty stream where there is nothing."""
    if item is None:
        return Stood(Head())
    head = Head(int(item["seq"]), item["entry_id"], int(item["fence"]), int(item["snapshot_seq"]))
    return Stood(head, item["_etag"], int(item["trimmed"]))


def item_of_entry(pk: str, append: Append) -> Item:
    """``n`` is the position, by which entries are read in order. ``sum`` tells damage."""
    seq = append.expected_seq + 1
    return {
        "id": entry_id(seq),
        "pk": pk,
        "n": seq,
        "entry_id": append.entry_id,
        "fence": append.fence,
        "data": base64.b64encode(append.data).decode(),
        "sum": _sum(append.stream, seq, append.entry_id, append.data),
    }


def entry_of(stream: str, item: Item) -> JournalEntry:
    """Raises CorruptEntryError when the item is not what was stored."""
    seq = int(item["n"])
    try:
        data = base64.b64decode(item["data"], validate=True)
        if item["sum"] != _sum(stream, seq, item["entry_id"], data):
            raise ValueError("the checksum differs")
        return JournalEntry(seq, item["entry_id"], int(item["fence"]), data)
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(stream, seq, f"cannot be read ({error})") from error


def corrupt(stream: str, seq: int, what: str) -> CorruptEntryError:
    """The error for a damaged entry."""
    return CorruptEntryError(
        f"{stream}: entry {seq} {what}; restore the container to a moment before it was damaged", stream=stream, seq=seq
    )


def item_of_snapshot(pk: str, stream: str, snapshot: Snapshot) -> Item:
    """The one snapshot that a stream has."""
    data = base64.b64encode(snapshot.data).decode()
    return {
        "id": SNAPSHOT,
        "pk": pk,
        "seq": snapshot.seq,
        "data": data,
        "sum": _sum(stream, snapshot.seq, "", snapshot.data),
    }


def snapshot_of(stream: str, item: Item) -> Snapshot:
    """Raises CorruptEntryError when the item is not what was stored."""
    try:
        seq, data = int(item["seq"]), base64.b64decode(item["data"], validate=True)
        if item["sum"] != _sum(stream, seq, "", data):
            raise ValueError("the checksum differs")
        return Snapshot(seq, data)
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(stream, int(item.get("seq", 0)), f"(the snapshot) cannot be read ({error})") from error


def _sum(stream: str, seq: int, entry_id: str, data: bytes) -> int:
    # The place belongs to it: an item that was copied elsewhere is as wrong as one that was changed.
    return zlib.crc32(data, zlib.crc32(f"{stream}\0{seq}\0{entry_id}".encode()))
