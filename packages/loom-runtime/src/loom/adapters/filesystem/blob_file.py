"""One blob as one file: the content, then what is known of it, then how long that is.

With both in one file a blob changes by one rename. A reader that has opened the file keeps its version, content and
metadata, whatever is written meanwhile, and a crash leaves nothing half.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from ...errors import BlobError
from ...ports.blobs import BlobInfo

__all__ = ["PartFile", "Reader", "info_at", "sync_folder"]

_END = struct.Struct(">Q8s")
_MAGIC = b"loomblob"


class PartFile:
    """A blob on its way: nobody sees it before ``place``. ``discard`` ends it in whatever state it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append content; the first call makes the file."""
        if self._file is None:
            self._file = self._path.open("xb")
        self._file.write(data)

    def finish(self, info: BlobInfo) -> None:
        """Append what is known of the content, and make all of it durable."""
        data = msgspec.json.encode(info)
        self.write(data + _END.pack(len(data), _MAGIC))
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def place(self, path: Path) -> None:
        """Become the blob at ``path``; durable after ``sync_folder``."""
        self._path.replace(path)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)


class Reader:
    """A range of one version of a blob. ``close`` ends it in whatever state it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._left = 0

    def open(self, start: int, length: int | None) -> None:
        """Raises FileNotFoundError; from here on the version cannot change."""
        self._file = self._path.open("rb", buffering=0)
        size = _read_info(self._file).size
        self._file.seek(min(start, size))
        left = max(0, size - start)
        self._left = left if length is None else min(left, length)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes more; none at the end of the range."""
        assert self._file is not None
        data = self._file.read(min(size, self._left))
        if not data and self._left:
            raise BlobError(f"{self._path} ended {self._left} bytes early", file=str(self._path))
        self._left -= len(data)
        return data

    def rest(self) -> bytes:
        """All that is left of the range."""
        pieces = []
        while piece := self.read(self._left):
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def info_at(path: Path) -> BlobInfo | None:
    """What is known of the blob at ``path``, or None when there is none. Raises BlobError when it is damaged."""
    try:
        with path.open("rb", buffering=0) as file:
            return _read_info(file)
    except FileNotFoundError:
        return None


def _read_info(file: BinaryIO) -> BlobInfo:
    """What is known of the blob in an open file. Raises BlobError when the file is damaged."""
    try:
        end = file.seek(-_END.size, os.SEEK_END)
        length, magic = _END.unpack(file.read(_END.size))
        if magic != _MAGIC or length > end:
            raise ValueError("it does not end as a blob does")
        file.seek(end - length)
        info = msgspec.json.decode(file.read(length), type=BlobInfo)
        if info.size != end - length:
            raise ValueError(f"it holds {end - length} bytes of content, not {info.size}")
    except (OSError, ValueError, struct.error) as error:
        message = f"{file.name}: the blob is damaged: {error}; restore it from a backup"
        raise BlobError(message, file=file.name) from error
    return info


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in the folder durable."""
    if os.name == "nt":  # Windows cannot open folders; NTFS journals the rename itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
