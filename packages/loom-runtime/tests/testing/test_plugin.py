"""What a user does: one line in a conftest, in a project that has pytest and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import loom

TEST = """
import asyncio
from loom import Context, workflow

pytest_plugins = ["loom.testing.plugin"]


@workflow
async def trial(ctx: Context) -> str:
    await ctx.sleep(30 * 86_400)
    return "over"


def test_trial(loom_app, loom_clock):
    async def body():
        async with loom_app(workflows=[trial]) as app:
            return await loom_clock.run_until(app.workflow(trial, "t").run())

    assert asyncio.run(body()) == "over"
"""


def _python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(loom.__file__).parents[1]), "LOOM_URL": "sqlite:///never.db"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_fixtures_come_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST, encoding="utf-8")
    done = _python("-m", "pytest", "-q", "-W", "error", "-p", "no:asyncio", "-p", "no:anyio", cwd=tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_loom_testing_does_without_pytest(tmp_path: Path) -> None:
    names = "from loom.testing import *; import sys; assert 'pytest' not in sys.modules, 'pytest was imported'"
    done = _python("-c", names, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
