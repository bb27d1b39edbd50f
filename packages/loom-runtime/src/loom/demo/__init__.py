"""``loom demo``: real files, a real SIGKILL, and a proof from the journal."""

from __future__ import annotations

from pathlib import Path

__all__ = ["run_demo"]


def run_demo(path: Path | None, folder: Path | None, *, files: int | None = None, json: bool = False) -> int:
    """Run the demo and say on stdout what happens; the exit code.

    Args:
        path: the folder to read, default the sources of the installed package.
        folder: where ``loom.db`` and ``report.md`` go, default ``./loom-demo``. A folder that is there already keeps
            what it holds; the demo begins a fresh run in it.
        files: read at most so many files.
        json: print one JSON object at the end instead of progress.

    0: every file was handled exactly once. 1: it was not, or something failed on the way. 2: it could not begin.
    """
    from .parent import run

    return run(path, folder, files=files, json=json)
