"""``loom run``: what it says, how it stops, what stops it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_what_it_serves_and_drains_when_told_to_stop(shell: Any, number: int) -> None:
    process = shell.spawn("run", "bank:app")
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or "shards" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    text = "".join(lines)
    assert "actors     Account" in text
    assert "workflows  refund, transfer" in text
    assert "sqlite:///loom.db" in text
    assert "256 of 256" in text
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "stopped" in rest
    assert shell.json("status")["members"] == []


def test_a_second_signal_quits_at_once(shell: Any) -> None:
    (shell.folder / "slow.py").write_text(
        "import asyncio\nfrom loom import Actor, Loom\n"
        "class Slow(Actor):\n"
        "    async def wait(self) -> None:\n"
        "        open('begun', 'w').close()\n"
        "        await asyncio.sleep(25)\n"
        "app = Loom(actors=[Slow])\n"
    )
    host = shell.spawn("run", "slow:app")
    shell.until((shell.folder / "loom.db").exists, "the file")
    shell.until(lambda: shell("status").exit_code == 0 and shell.json("status")["members"], "the host")
    caller = shell.spawn("call", "Slow", "a", "wait")
    shell.until((shell.folder / "begun").exists, "the turn to begin")
    host.terminate()
    assert host.stdout is not None
    while "second signal" not in host.stdout.readline():
        assert host.poll() is None
    host.terminate()
    host.communicate(timeout=20)
    assert host.returncode == 128 + signal.SIGTERM
    caller.kill()
    caller.communicate(timeout=20)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nope:app", "no module 'nope'"),
        ("bank.py:app", "name the module: bank:app"),
        ("bank", "the apps app, second; say which"),
        ("bank:gone", "gone does not exist; bank has the apps app, second"),
        ("bank:number", "is a int, not a Loom"),
        ("broken:app", "ZeroDivisionError: division by zero (broken.py, line 2)"),
        ("needy:app", "it needs 'not_there'"),
    ],
)
def test_a_wrong_target_is_explained(shell: Any, target: str, said: str) -> None:
    (shell.folder / "broken.py").write_text("x = 1\nx / 0\n")
    (shell.folder / "needy.py").write_text("import not_there\n")
    result = shell("run", target)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "code: configuration" in result.stderr


def test_url_and_its_credentials(shell: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOM_URL", "nosuch://user:hunter2@host/db?password=hunter2")
    for command in (("status",), ("doctor",), ("check",), ("call", "A", "b", "c")):
        result = shell(*command)
        assert result.exit_code in (0, 1)
        assert "hunter2" not in result.output
        assert "hunter2" not in shell(*command, "--json").output
    monkeypatch.delenv("LOOM_URL")
    error = shell.json("status", "--url", f"sqlite:///{tmp_path}/other.db", code=1)["error"]
    assert f"there is no {tmp_path}/other.db" in error["message"]
