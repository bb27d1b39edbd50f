"""Runs the real command line: in this process where that is enough, as processes where hosts and signals matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loom.cli.tree import build

SOURCE = Path(__file__).parents[2] / "src"

BANK = """
from loom import Actor, Context, Loom, workflow
import msgspec


class AccountState(msgspec.Struct):
    balance: int = 0


class Account(Actor[AccountState]):
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        return self.state.balance

    async def withdraw(self, amount: int) -> int:
        if self.state.balance < amount:
            raise ValueError(f"only {self.state.balance}")
        self.state.balance -= amount
        return self.state.balance

    async def hello(self, name: str) -> str:
        return f"hello {name}"


@workflow
async def transfer(ctx: Context, source: str, target: str, amount: int) -> str:
    await ctx.actor(Account, source).withdraw(amount)
    ctx.add_compensation(ctx.actor(Account, source).deposit, amount)
    if not await ctx.wait_signal("approved", bool, timeout=3600):
        raise PermissionError("refused")
    await ctx.actor(Account, target).deposit(amount)
    return "done"


@workflow
async def refund(ctx: Context, target: str) -> str:
    return f"refunded {target}"


app = Loom(actors=[Account], workflows=[transfer, refund])
second = Loom(actors=[Account])
number = 5
"""


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOM_")}
    paths = [str(SOURCE), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **extra}


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


class Shell:
    """The commands, run in one folder."""

    source = SOURCE
    environment = staticmethod(environment)
    until = staticmethod(until)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = CliRunner()

    def __call__(self, *arguments: str) -> Any:
        """Run a command in this process; its ``exit_code``, ``stdout`` and ``stderr``."""
        return self.runner.invoke(build(), list(arguments))

    def ok(self, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def spawn(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "loom.cli", *arguments], cwd=self.folder, env=environment(**extra), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def prepare(folder: Path) -> Shell:
    (folder / "bank.py").write_text(textwrap.dedent(BANK))
    return Shell(folder)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A folder in which ``loom run bank:app`` runs."""
    shell = prepare(tmp_path_factory.mktemp("fleet"))
    process = shell.spawn("run", "bank:app", "--json")
    assert process.stdout is not None
    started = json.loads(process.stdout.readline())
    assert started["event"] == "started"
    assert started["actors"] == ["Account"]
    assert started["ports"]["journal"] == "sqlite:///loom.db"
    assert started["shards"] == {"owned": 256, "of": 256}
    yield shell
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output


@pytest.fixture
def running(fleet: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(fleet.folder)
    return fleet


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A folder with ``bank.py`` in which nothing runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    others = sys.modules.pop("bank", None)
    yield prepare(tmp_path)
    sys.modules.pop("bank", None)
    if others is not None:
        sys.modules["bank"] = others


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LOOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
