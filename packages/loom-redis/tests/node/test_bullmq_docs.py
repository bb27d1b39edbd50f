"""The programs of docs/bullmq.md run as they are written, on a server of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loom_redis.testing import RedisServer

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "bullmq.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DOCUMENT.exists(), reason="the documents lie in the repository"),
]


@pytest.fixture
def run(tmp_path: Path, node_modules: Path) -> Iterator[Callable[[str], str]]:
    """Runs a program of the document by its name, and returns what it printed."""
    text = DOCUMENT.read_text(encoding="utf-8")
    programs = dict(re.findall(r"^```(?:js|python) (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    (tmp_path / "node_modules").symlink_to(node_modules)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with RedisServer(tmp_path / "redis") as server:

        def run(name: str) -> str:
            (tmp_path / name).write_text(programs[name].replace("6379", str(server.port)), encoding="utf-8")
            command = ["node" if name.endswith(".mjs") else sys.executable, name]
            done = subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def test_node_produces_and_python_works(run: Callable[[str], str]) -> None:
    assert run("add.mjs") == ""
    assert run("work.py") == "sea.jpg@640 photo 640\n"


def test_python_sends_and_node_works(run: Callable[[str], str]) -> None:
    assert run("send.py") == ""
    assert run("work.mjs") == "order/7 confirm ann@example.org\n"
