"""How heads, entries and snapshots of a journal are stored as bytes."""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from loom.errors import CorruptEntryError
from loom.ports import Head, JournalEntry, Snapshot

__all__ = ["head_of", "head_text", "heads_of", "pack_entry", "pack_snapshot", "unpack_entry", "unpack_snapshot"]

# The checksum covers all that follows it, so that an entry under another's position is found out too.
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<Hq")  # the size of the head, the fence
_SNAPSHOT = struct.Struct("<q8s")  # the position, a number unique to the call


def head_text(seq: int, entry_id: str) -> bytes:
    """``seq:entry_id``, which a script compares as a whole."""
    return f"{seq}:{entry_id}".encode(errors="surrogatepass")


def head_of(head: bytes | None, fence: bytes | None, snapshot_seq: bytes | None) -> Head:
    """The head that is stored as these fields."""
    if head is None:
        return Head()
    seq, _, entry_id = head.partition(b":")
    return Head(int(seq), entry_id.decode(), int(fence or 0), int(snapshot_seq or 0))


def heads_of(rows: Iterable[Sequence[Any]]) -> list[Head]:
    """``head_of`` for each."""
    return [head_of(*row) for row in rows]


def pack_entry(head: bytes, fence: int, data: bytes) -> bytes:
    """An entry as it is stored; ``head`` is the ``head_text`` that the stream has with it."""
    record = _HEADER.pack(len(head), fence) + head + data
    return _CRC.pack(zlib.crc32(record)) + record


def unpack_entry(stream: str, seq: int, record: bytes | None) -> JournalEntry:
    """Raises CorruptEntryError unless the record is whole and was written for this position."""
    if record is None or len(record) < 14 or zlib.crc32(memoryview(record)[4:]) != _CRC.unpack_from(record)[0]:
        raise _corrupt(stream, seq)
    size, fence = _HEADER.unpack_from(record, 4)
    position, _, entry_id = record[14 : 14 + size].partition(b":")
    if position != b"%d" % seq:
        raise _corrupt(stream, seq)
    return JournalEntry(seq, entry_id.decode(), fence, record[14 + size :])


def pack_snapshot(snapshot: Snapshot) -> bytes:
    """A snapshot as it is stored, different each time, so that a call can tell its own from an equal one."""
    record = _SNAPSHOT.pack(snapshot.seq, secrets.token_bytes(8)) + snapshot.data
    return _CRC.pack(zlib.crc32(record)) + record


def unpack_snapshot(stream: str, seq: int, record: bytes | None) -> bytes:
    """The data of the snapshot. Raises CorruptEntryError unless the record is whole and is this position's."""
    if record is None or len(record) < 20 or zlib.crc32(memoryview(record)[4:]) != _CRC.unpack_from(record)[0]:
        raise _corrupt(stream, seq)
    if _SNAPSHOT.unpack_from(record, 4)[0] != seq:
        raise _corrupt(stream, seq)
    return record[20:]


def _corrupt(stream: str, seq: int) -> CorruptEntryError:
    return CorruptEntryError(
        f"{stream}: what Redis holds at {seq} does not match its checksum; restore the server's data from a backup",
        stream=stream,
        seq=seq,
    )
