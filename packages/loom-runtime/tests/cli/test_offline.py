"""Commands that need no host: check, doctor, plugins, journal, dlq, and errors."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

import pytest

from loom import Loom
from loom.clock import SystemClock
from loom.codec import encode
from loom.ports import MessageQueue, OutgoingMessage
from loom.runtime.messages import Kind, Message, decode_message, shard_of
from loom.runtime.pending import PendingRecords, run_record


def deposit(shell: Any, times: int) -> None:
    async def work() -> None:
        from bank import Account, app  # type: ignore[import-not-found]

        async with app:
            for _ in range(times):
                await app.actor(Account, "alice").deposit(1)

    asyncio.run(work())


def test_nobody_serves(shell: Any) -> None:
    error = shell.json("call", "Account", "alice", "deposit", "5", code=1)["error"]
    assert error["code"] == "call.unknown_actor"
    assert "no host serves Account; start one with: loom run" in error["message"]
    assert "no host is running here" in error["message"]
    assert shell.json("start", "transfer", "t", code=1)["error"]["code"] == "call.unknown_workflow"
    assert shell.json("runs", "list")["runs"] == []
    assert shell.ok("runs", "list").strip() == "no runs"
    assert shell.json("journal")["streams"] == []
    assert shell.json("dlq", "list")["dead"] == []


@pytest.mark.parametrize(
    "command",
    [("status",), ("status", "transfer/t"), ("runs", "list"), ("journal",), ("journal", "Account/a"), ("dlq", "list")],
    ids=" ".join,
)
def test_looking_makes_nothing(shell: Any, command: tuple[str, ...]) -> None:
    error = shell.json(*command, code=1)["error"]
    assert error["code"] == "port.unavailable"
    assert f"there is no {shell.folder / 'loom.db'}: no app has run here" in error["message"]
    assert sorted(path.name for path in shell.folder.iterdir()) == ["bank.py"]


def test_wrong_usage_exits_with_2(shell: Any) -> None:
    assert shell("bogus").exit_code == 2
    assert shell("call", "Account").exit_code == 2
    assert json.loads(shell("bogus", "--json").stdout)["error"]["code"] == "usage"
    assert shell("status", "--app", "bank:app", "--url", "memory://").exit_code == 2


def test_check_says_what_survives_and_refuses_what_forgets(shell: Any) -> None:
    found = shell.json("check", "bank:app", "--env", "development")
    assert "An acknowledged call survives" in found["sentence"]
    assert found["refused"] is False
    assert "An acknowledged call survives" in shell.ok("check", "--env", "development")
    refused = shell.json("check", "--env", "production", "--url", "memory://", code=1)
    assert refused["refused"] is True
    assert "ephemeral" in {finding["code"] for finding in refused["findings"]}
    text = shell("check", "--env", "production", "--url", "memory://")
    assert text.exit_code == 1
    assert "remedy:" in text.stdout
    assert shell("check", "--env", "development", "--url", "memory://").exit_code == 0
    assert shell("check", "--env", "prod").exit_code == 2
    assert not (shell.folder / "loom.db").exists(), "check starts nothing"
    assert shell("check", "--env", "development", "--connect").exit_code == 0


def test_doctor_and_plugins(shell: Any) -> None:
    found = shell("doctor", "--json")
    assert found.exit_code in (0, 1)  # the machine of the test may have a full disk
    checks = {row["check"]: row for row in json.loads(found.stdout)["checks"]}
    assert checks["journal"]["ok"]
    assert checks["journal"]["source"] == "default sqlite:///loom.db"
    assert "synchronous=FULL" in checks["journal: pragmas"]["found"]
    assert "journal_mode=wal" in checks["journal: pragmas"]["found"]
    broken = shell.json("doctor", "--url", f"sqlite:///{shell.folder}/bank.py/x.db", code=1)
    assert any(row["check"] == "journal" and not row["ok"] for row in broken["checks"])
    plugins = shell.json("plugins")
    assert {"journal", "queue"} <= {spec["port"] for spec in plugins["adapters"] if spec["scheme"] == "sqlite"}
    assert "sqlite://" in shell.ok("plugins")


def test_a_corrupt_entry_is_shown_and_the_rest_goes_on(shell: Any) -> None:
    deposit(shell, 4)
    with closing(sqlite3.connect("loom.db")) as database:
        database.execute("UPDATE journal_entries SET data = x'00' WHERE seq = 2")
        database.execute("UPDATE journal_entries SET data = x'c1', crc = 1 WHERE seq = 3")
        database.commit()
    entries = shell.json("journal", "Account/alice")["entries"]
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4]
    assert [bool(entry.get("corrupt")) for entry in entries] == [False, True, True, False]
    text = shell.ok("journal", "alice")
    assert text.count("CAN'T BE READ") == 2
    assert 'state {"balance":4}' in text
    assert [e["seq"] for e in shell.json("journal", "alice", "--after", "1", "--limit", "2")["entries"]] == [2, 3]


def test_an_entry_that_is_no_event_is_shown_with_its_reason(shell: Any) -> None:
    import zlib

    deposit(shell, 2)
    data = b"\xc1"
    with closing(sqlite3.connect("loom.db")) as database:
        change = "UPDATE journal_entries SET data = ?, crc = ? WHERE seq = 1"
        database.execute(change, (data, zlib.crc32(data)))
        database.commit()
    first, second = shell.json("journal", "Account/alice")["entries"]
    assert first["corrupt"]
    assert second["events"]
    assert shell.json("journal", "Account/alice", "--raw")["entries"][0]["raw"] == "c1"


def test_trimmed_entries_are_a_remark_and_the_snapshot_is_shown(shell: Any) -> None:
    (shell.folder / "loom.toml").write_text("[runtime]\nsnapshot_every = 5\nretain_entries = 3\n")
    deposit(shell, 30)
    with closing(sqlite3.connect("loom.db")) as database:
        kept = [row[0] for row in database.execute("SELECT seq FROM journal_entries ORDER BY seq")]
    assert kept[0] > 1
    found = shell.json("journal", "Account/alice")
    assert [entry["seq"] for entry in found["entries"]] == kept
    assert found["snapshot"]["state"] == {"balance": found["snapshot"]["seq"]}
    assert "have been trimmed" in shell.ok("journal", "Account/alice")


def dead_letter(*, poisoned: str = "") -> Message:
    message = Message(
        id="old", kind=Kind.SEND, stream="actor/Account/alice", method="deposit", args=encode([5]), sent_at=1.0,
        expires_at=2.0,
    )  # fmt: skip

    async def work() -> None:
        async with Loom().ports() as ports:
            queue, documents = ports["queue"], ports["documents"]
            assert isinstance(queue, MessageQueue)
            for name, body in (("old", encode(message)), ("rubbish", b"\xc1")):
                await queue.send(OutgoingMessage(queue="loom/shard/7", id=name, body=body, group=message.stream))
                [delivery] = await queue.receive(["loom/shard/7"])
                assert await queue.dead_letter(delivery, "it failed")
            pending = PendingRecords(documents, SystemClock())  # type: ignore[arg-type]
            await pending.start()
            if poisoned:
                record = run_record(poisoned, due=None, status="poisoned", since=time.time())
                record.resumed = 4
                await pending.put(shard_of(poisoned, 256), record)

    asyncio.run(work())
    return message


def waiting_messages() -> list[Message]:
    async def work() -> Any:
        async with Loom().ports() as ports:
            queue = ports["queue"]
            assert isinstance(queue, MessageQueue)
            return [decode_message(d.body) for d in await queue.receive(["loom/shard/7"], limit=10)]

    found: list[Message] = asyncio.run(work())
    return found


def test_a_redriven_dead_letter_is_a_new_request(shell: Any) -> None:
    dead_letter()
    listed = {dead["id"]: dead for dead in shell.json("dlq", "list")["dead"]}
    assert listed["old"]["args"] == [5]
    assert listed["old"]["method"] == "deposit"
    assert listed["old"]["reason"] == "it failed"
    assert listed["rubbish"]["unreadable"]
    assert "it failed" in shell.ok("dlq", "list")
    assert "actor/Account/alice" in shell.ok("dlq", "show", "loom/shard/7", "--id", "old")
    assert shell("dlq", "redrive").exit_code == 2
    assert shell.json("dlq", "redrive", "--id", "gone", code=1)["error"]["code"] == "queue"
    said = shell.ok("dlq", "redrive", "loom/shard/7", "--id", "old")
    assert "NEW request" in said
    [message] = waiting_messages()
    assert message.id != "old"
    assert message.id in said
    assert message.expires_at > time.time()
    assert (message.method, message.args) == ("deposit", encode([5]))
    assert [dead["id"] for dead in shell.json("dlq", "list")["dead"]] == ["rubbish"]
    assert shell.json("dlq", "redrive", "loom/shard/7")["redriven"] == [], "what can't be read would only die again"
    assert shell.json("dlq", "discard", "loom/shard/7")["discarded"] == [{"queue": "loom/shard/7", "id": "rubbish"}]
    assert shell.json("dlq", "list")["dead"] == []


def test_poisoned_work_is_listed_and_redriven(shell: Any) -> None:
    dead_letter(poisoned="run/transfer/t-9")
    [dead] = shell.json("dlq", "list", "pending")["dead"]
    assert dead["id"] == "run/transfer/t-9"
    assert shell.json("status")["pending"]["poisoned"] == ["run/transfer/t-9"]
    assert shell.json("runs", "list", "--status", "poisoned")["runs"][0]["run_id"] == "t-9"
    assert shell("dlq", "discard", "pending").exit_code == 2
    [redriven] = shell.json("dlq", "redrive", "pending")["redriven"]
    assert redriven == {"queue": "pending", "id": "run/transfer/t-9", "resumed": False}
    assert shell.json("runs", "list", "--status", "running")["runs"][0]["run_id"] == "t-9"
    assert shell.json("status")["pending"]["overdue"] == 1


def test_a_traceback_only_when_asked_for(shell: Any) -> None:
    for asked in ("", "1"):
        process = subprocess.run(
            [sys.executable, "-m", "loom.cli", "run", "nope:app"], cwd=shell.folder, text=True, capture_output=True,
            check=False, env=shell.environment(LOOM_TRACEBACK=asked),
        )  # fmt: skip
        assert process.returncode == 1
        assert ("Traceback" in process.stderr) == (asked == "1")


def test_help_lists_the_commands_and_version_is_that_of_the_package(shell: Any) -> None:
    from loom import __version__

    text = shell.ok("--help")
    for name in ("demo", "run", "call", "start", "runs", "status", "signal", "cancel", "check", "doctor", "plugins"):
        assert f" {name} " in text
    assert shell.ok("--version").strip() == __version__


def test_the_entry_point_is_light(shell: Any) -> None:
    code = "import sys, loom; before = set(sys.modules); import loom.cli; print(*sorted(set(sys.modules) - before))"
    process = subprocess.run(
        [sys.executable, "-c", code],
        text=True,
        capture_output=True,
        check=True,
        env=shell.environment(PYTHONPATH=str(shell.source)),
    )
    assert process.stdout.split() == ["loom.cli"]


def test_a_plugin_adds_commands_and_replaces_none(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.folder / "greeting.py").write_text(
        "from loom.plugins import hookimpl\n"
        "@hookimpl\n"
        "def loom_cli_commands(app):\n"
        "    @app.command()\n"
        "    def greet(name: str) -> None:\n"
        "        'Say hello.'\n"
        "        print('hello', name)\n"
        "    @app.command('plugins')\n"
        "    def mine() -> None:\n"
        "        print('mine')\n"
    )
    info = shell.folder / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[loom.plugins]\ngreeting = greeting\n")
    assert shell.ok("greet", "bob").strip() == "hello bob"
    assert "Say hello." in shell.ok("--help")
    assert "sqlite://" in shell.ok("plugins")


async def test_doctor_finds_clocks_that_are_ahead() -> None:
    from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
    from loom.cli.doctor import _round_trip
    from loom.ports import Member
    from loom.testing.clock import ManualClock

    clock = ManualClock()
    clock.advance(100.0)
    coordination = InMemoryCoordinationAdapter(clock=clock)
    await coordination.start()
    await coordination.join(Member(id="fast"))
    _, _, ahead = await _round_trip(coordination)
    assert 90 < ahead["fast"] < 101
