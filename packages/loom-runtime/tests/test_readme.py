"""The README's program is the tested example, and it does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import loom
from loom.cli.tree import build

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not (ROOT / "examples").is_dir(), reason="the README lies in the repository")


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(loom.__file__).parents[1]), str(ROOT / "examples")])
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_in_the_readme_is_the_example() -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert program == (ROOT / "examples" / "bank.py").read_text(encoding="utf-8")


def test_the_shell_at_a_glance_names_every_command() -> None:
    shell = README.read_text(encoding="utf-8").partition("## The shell")[2].partition("\n## ")[0]
    tree = build()
    groups = [str(group.name) for group in tree.registered_groups]
    commands = [str(command.name) for command in tree.registered_commands]
    assert set(re.findall(r"`loom ([a-z-]+)", shell)) == {*groups, *commands}


BALANCES = """
import asyncio
from bank import Account, app
async def main():
    async with app:
        print(await app.actor(Account, "alice").balance(), await app.actor(Account, "bob").balance())
asyncio.run(main())
"""


def test_the_example_runs_and_a_second_time_does_what_the_readme_says(tmp_path: Path) -> None:
    bank = ROOT / "examples" / "bank.py"
    first = run(tmp_path, bank)
    assert first.returncode == 0, first.stderr
    [waits, done] = first.stdout.splitlines()
    assert waits == "transfer of 30 from alice waits for approval"
    assert done.startswith("done RunStatus(")
    assert "status='completed'" in done
    second = run(tmp_path, bank)
    refusal = "run/transfer/t-1 is completed; it takes no more signals"
    assert (second.returncode, second.stdout) == (1, "")
    assert refusal in second.stderr
    assert refusal in README.read_text(encoding="utf-8")
    assert run(tmp_path, "-c", BALANCES).stdout == f"{100 + 5 - 30 + 100} 30\n"
