"""How long a newcomer waits: importing the package, and the shell's help."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from .measure import Figure

__all__ = ["measure"]


def _median(command: list[str], rounds: int) -> float:
    # As an installed package runs: its bytecode is cached, by a first run if need be.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(*, quick: bool = False) -> list[Figure]:
    """``import loom`` beyond the interpreter's own start, and ``loom --help`` as a whole."""
    rounds = 5 if quick else 15
    bare = _median([sys.executable, "-c", "pass"], rounds)
    imported = _median([sys.executable, "-c", "import loom"], rounds)
    help_text = _median([sys.executable, "-c", "from loom.cli import main; main()", "--help"], rounds)
    return [
        Figure(name="import loom", value=(imported - bare) * 1e3, unit="ms", wanted=150, higher_is_better=False),
        Figure(name="loom --help", value=help_text * 1e3, unit="ms", wanted=400, higher_is_better=False),
    ]
