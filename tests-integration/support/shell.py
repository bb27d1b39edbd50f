"""The ``loom`` command, as a shell runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

__all__ = ["loom", "run_loom"]


async def run_loom(*arguments: str, url: str, folder: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """Run it with LOOM_URL; the exit code, what it wrote, and what it wrote to stderr."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOM_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loom.cli", *arguments, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**inherited, "LOOM_URL": url, "LOOM_ENV": "test", "NO_COLOR": "1", "COLUMNS": "160", **environment},
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def loom(*arguments: str, url: str, folder: Path | None = None, **environment: str) -> str:
    """Run it, and return what it wrote. AssertionError when it fails."""
    code, out, errors = await run_loom(*arguments, url=url, folder=folder, **environment)
    assert code == 0, f"loom {' '.join(arguments)}: {code}\n{out}\n{errors}"
    return out
