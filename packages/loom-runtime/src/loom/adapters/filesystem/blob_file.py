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

__all__ = ["read_info", "sync_folder", "write_info"]

_END = struct.Struct(">Q8s")
_MAGIC = b"loomblob"


def write_info(file: BinaryIO, info: BlobInfo) -> None:
    """Append what is known of the content just written."""
    data = msgspec.json.encode(info)
    file.write(data + _END.pack(len(data), _MAGIC))


def read_info(file: BinaryIO) -> BlobInfo:
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
