"""Every program in the documents runs, and prints what the document says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import loom

ROOT = Path(__file__).resolve().parents[4]
PROGRAM = re.compile(r"^```python run\n(.*?)^```\n(?:```text output\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the documents lie in the repository")


def programs() -> Iterator[object]:
    for document in sorted((ROOT / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        for match in PROGRAM.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            yield pytest.param(match[1], match[2], id=f"{document.name}:{line}")


@pytest.mark.parametrize(("program", "output"), list(programs()))
def test_program_runs_and_prints_what_is_shown(program: str, output: str | None, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
    environment["PYTHONPATH"] = str(Path(loom.__file__).parents[1])
    command = [sys.executable, "-W", "error", file]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert done.stdout == output
