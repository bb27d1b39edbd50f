"""Where files of this package lie for a user."""

from __future__ import annotations

import os
from pathlib import Path

from .releases import Release

__all__ = ["cache_folder", "installed_path"]


def cache_folder() -> Path:
    """For compiled modules, which can be made again: ``$XDG_CACHE_HOME/loom-tlsnotary``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loom-tlsnotary"


def installed_path(release: Release) -> Path:
    """Where ``loom tlsnotary install`` puts a release: in ``$XDG_DATA_HOME/loom-tlsnotary``."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "loom-tlsnotary" / f"tlsn-wasm-{release.version}.wasm"
