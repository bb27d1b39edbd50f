"""A generated package as Python would find it installed: its sources and a dist-info on a path of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import loom
from loom.scaffold import AdapterName, write_adapter


class Package:
    """The package ``loom-acme``, written by ``loom new-adapter acme``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "src" / "loom_acme"

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python with the package installed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(loom.__file__).parents[1]), str(self.folder / "src")])
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd or self.folder, env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture
def acme(tmp_path: Path) -> Package:
    folder = tmp_path / "loom-acme"
    write_adapter(AdapterName.parse("acme"), folder)
    info = folder / "src" / "loom_acme-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loom-acme\nVersion: 0.1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[loom.plugins]\nacme = loom_acme.plugin\n", encoding="utf-8")
    return Package(folder)
