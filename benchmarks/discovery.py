"""What fifty installed plugins add to the discovery of adapters: a fresh process each time, with and without them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from .measure import Figure, temporary_folder

__all__ = ["measure"]

_PLUGINS = 50

# What a plugin should be: a light module that names its adapter. Importing the driver would end the measurement.
_PLUGIN = """\
from loom.plugins import AdapterSpec, Durability, Feature, Reach, hookimpl


@hookimpl
def loom_register_adapters():
    yield AdapterSpec(
        port="journal", scheme="bench{n}", target="bench_driver_{n}:Journal", durability=Durability.REPLICATED,
        reach=Reach.NETWORK, features=frozenset({{Feature.FENCING}}), distribution="loom-bench-{n}",
    )
"""
_DRIVER = "raise SystemExit('discovery imported the driver of loom-bench-{n}')\n"

_CHILD = """\
import sys, time
from loom.plugins import AdapterRegistry
began = time.perf_counter()
specs = AdapterRegistry().specs()
elapsed = time.perf_counter() - began
found = sum(spec.scheme.startswith("bench") for spec in specs)
assert found == int(sys.argv[1]), f"{found} plugins found"
assert not any(name.startswith("bench_driver") for name in sys.modules)
print(elapsed)
"""


def _install(folder: Path) -> None:
    """Fifty distributions, as pip leaves them: modules, and metadata with an entry point."""
    for n in range(_PLUGINS):
        (folder / f"bench_plugin_{n}.py").write_text(_PLUGIN.format(n=n))
        (folder / f"bench_driver_{n}.py").write_text(_DRIVER.format(n=n))
        info = folder / f"loom_bench_{n}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: loom-bench-{n}\nVersion: 1.0\n\n" + "text\n" * 200
        )
        (info / "entry_points.txt").write_text(f"[loom.plugins]\nbench{n} = bench_plugin_{n}\n")


def _discover(folder: Path, plugins: int) -> float:
    """Milliseconds from a registry's construction to the list of every adapter."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *(path for path in sys.path if path)])
    command = [sys.executable, "-c", _CHILD, str(plugins)]
    return float(subprocess.run(command, check=True, capture_output=True, env=environment).stdout) * 1e3


def measure(*, quick: bool = False) -> list[Figure]:
    """Discovery with the fifty plugins beyond discovery without: medians of runs in turn, bytecode cached."""
    with temporary_folder() as folder:
        bare, full = folder / "bare", folder / "full"
        bare.mkdir()
        full.mkdir()
        _install(full)
        without, with_plugins = [], []
        for number in range(6 if quick else 16):
            pair = _discover(bare, 0), _discover(full, _PLUGINS)
            if number:  # the first run writes the bytecode
                without.append(pair[0])
                with_plugins.append(pair[1])
    added = statistics.median(with_plugins) - statistics.median(without)
    name = f"discovery of {_PLUGINS} plugins, added"
    return [Figure(name=name, value=added, unit="ms", wanted=20, higher_is_better=False)]
