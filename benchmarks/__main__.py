"""``python -m benchmarks``: measure, print a table, and write JSON."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from . import (
    activation,
    conformance,
    cosmos_stores,
    discovery,
    redis_fleet,
    redis_queue,
    redis_stores,
    startup,
    tlsnotary,
    turns,
    workflows,
)
from .measure import Figure

SUITES: dict[str, Callable[..., list[Figure]]] = {
    "turns": turns.measure,
    "workflows": workflows.measure,
    "activation": activation.measure,
    "startup": startup.measure,
    "discovery": discovery.measure,
    "conformance": conformance.measure,
    "redis_queue": redis_queue.measure,
    "redis_stores": redis_stores.measure,
    "redis_fleet": redis_fleet.measure,
    "cosmos_stores": cosmos_stores.measure,
    "tlsnotary": tlsnotary.measure,
}


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | measured | raw limit in the same run | ratio | wanted |", "|---|---|---|---|---|"]
    for figure in figures:
        raw = f"{figure.raw:,.1f} {figure.raw_name}" if figure.raw else "-"
        ratio = f"{figure.ratio:.2f}" if figure.raw else "-"
        sign = "at least" if figure.higher_is_better else "at most"
        wanted = "-" if figure.wanted is None else f"{sign} {figure.wanted:g}{'' if figure.raw else ' ' + figure.unit}"
        times = "" if figure.p50_ms is None else f" (p50 {figure.p50_ms:.2f} ms, p99 {figure.p99_ms:.2f} ms)"
        mark = "" if figure.reached else " **missed**"
        lines.append(f"| {figure.name} | {figure.value:,.1f} {figure.unit}{times} | {raw} | {ratio} | {wanted}{mark} |")
    return "\n".join(lines)


def main() -> int:
    """Exit code 1 when a wanted ratio is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], help="which; all when none is named")
    parser.add_argument("--quick", action="store_true", help="a quarter of the work, for a first look")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    figures: list[Figure] = []
    for name in options.suites or SUITES:
        print(f"measuring {name} …", file=sys.stderr)
        figures += SUITES[name](quick=options.quick)
    print(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores, {platform.system()}\n")
    print(table(figures))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1))
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
