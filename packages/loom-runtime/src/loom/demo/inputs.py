"""Which files the demo reads, and where it writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["DEFAULT_LIMIT", "DemoError", "Inputs", "find_files", "is_text", "report_path"]

DEFAULT_LIMIT = 5000
REPORT_HEADING = "# Report of `loom demo`"
_SKIPPED = frozenset({"__pycache__", "node_modules"})


class DemoError(Exception):
    """The demo can't begin; the text is for the person who started it."""


class Inputs(NamedTuple):
    """Relative paths in order; how many were left out beyond the limit, and how many for names that are not UTF-8."""

    files: list[str]
    left_out: int
    misnamed: int


def find_files(root: Path, folder: Path, limit: int) -> Inputs:
    """Up to ``limit`` files below ``root``.

    Hidden files and folders, ``__pycache__``, ``node_modules`` and the demo's own ``folder`` don't count, and links
    to folders are not followed. Raises DemoError when ``root`` can't be read at all.
    """
    if not root.exists():
        raise DemoError(f"there is no folder {root}")
    if not root.is_dir():
        raise DemoError(f"{root} is not a folder; give one with --path")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DemoError(f"the folder {root} can't be read: permission denied")
    own = folder.resolve()
    found: list[str] = []
    for parent, folders, names in os.walk(root):
        here = Path(parent)
        folders[:] = [name for name in folders if _counts(name) and (here / name).resolve() != own]
        found += [(here / name).relative_to(root).as_posix() for name in names if _counts(name)]
    named = sorted(filter(is_text, found))
    return Inputs(named[:limit], max(0, len(named) - limit), len(found) - len(named))


def is_text(path: str) -> bool:
    """Whether the path can be written as UTF-8: a journal holds text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in _SKIPPED


def report_path(folder: Path, run: str) -> Path:
    """``report.md``, or a name of this run's own where a ``report.md`` lies that the demo did not write."""
    usual = folder / "report.md"
    try:
        with usual.open(encoding="utf-8", errors="replace") as file:
            ours = file.readline().startswith(REPORT_HEADING)
    except FileNotFoundError:
        ours = True
    except OSError:
        ours = False
    return usual if ours else folder / f"report-{run}.md"
