"""Which file system a path lies on, from what the kernel says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

__all__ = ["FileSystem", "filesystem_of", "kind_of", "read_mounts"]

FileSystem = Literal["memory", "layer", "network", "local"]

_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_LAYER = frozenset({"overlay", "overlayfs", "aufs"})
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse"}
)


def read_mounts() -> str | None:
    """The kernel's list of mounts, or None where there is none to read (not Linux)."""
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def filesystem_of(path: Path, mounts: str) -> tuple[str, str] | None:
    """The type of the file system that holds ``path`` and where it is mounted; None when no mount covers it.

    ``path`` need not exist: links in the part that does are followed. Where mounts lie over each other the last counts.
    """
    resolved = path.resolve()
    best: tuple[int, str, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        if resolved.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), fields[2], str(point))
    return (best[1], best[2]) if best is not None else None


def kind_of(filesystem: str) -> FileSystem:
    """What the type means for a database: gone with the machine's or the container's life, shared, or a plain disk."""
    if filesystem in _MEMORY:
        return "memory"
    if filesystem in _LAYER:
        return "layer"
    if filesystem in _NETWORK or filesystem.startswith("fuse."):
        return "network"
    return "local"
