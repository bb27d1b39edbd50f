"""How long the proof of the built-in adapters takes: every suite of the kit on ``memory://`` and ``sqlite://``."""

from __future__ import annotations

import subprocess
import sys
import time

from .measure import Figure, temporary_folder

__all__ = ["measure"]


def measure(*, quick: bool = False) -> list[Figure]:
    """``loom conformance memory:// sqlite:///my.db``; a quick run proves memory alone."""
    urls = ["memory://"] if quick else ["memory://", "sqlite:///my.db"]
    with temporary_folder() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from loom.cli import main; main()", "conformance", *urls],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        seconds = time.perf_counter() - began
    return [
        Figure(name=f"loom conformance {' '.join(urls)}", value=seconds, unit="s", wanted=60, higher_is_better=False)
    ]
