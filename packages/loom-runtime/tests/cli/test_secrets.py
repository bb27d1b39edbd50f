"""``loom secrets``, and what no command shows: values planted in a store and hunted for in every output."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loom.cli.tree import build
from loom.sealing import KEYS, KEYS_FILE, new_key

PLANTED = "planted-7hQ2xZ-never-shown"


@pytest.fixture
def secrets(shell: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with a keyring in its environment."""
    monkeypatch.setenv(KEYS, new_key("first"))
    return shell


def put(shell: Any, *arguments: str, value: str = PLANTED) -> dict[str, Any]:
    result = shell.runner.invoke(build(), ["secrets", *arguments, "--json"], input=value)
    assert result.exit_code == 0, result.output
    assert value not in result.output
    return dict(json.loads(result.stdout))


def hidden(text: str) -> str:
    assert PLANTED not in text
    return text


def test_a_life_of_a_secret(secrets: Any) -> None:
    assert secrets.json("secrets", "list", code=1)["error"]["code"] == "port.unavailable"
    assert not (secrets.folder / "loom.db").exists(), "looking makes nothing"
    first = put(secrets, "set", "api-key", value=PLANTED + "\n")
    assert secrets.ok("secrets", "get", "api-key", "--show") == PLANTED + "\n"
    assert secrets.json("secrets", "get", "api-key", "--show")["value"] == PLANTED
    assert secrets.json("secrets", "get", "api-key")["value"] == "***"
    assert "api-key" in hidden(secrets.ok("secrets", "get", "api-key"))
    second = put(secrets, "rotate", "api-key", "--overlap", "3600", value="another-value")
    listed = secrets.json("secrets", "versions", "api-key")["versions"]
    assert [row["version"] for row in listed] == [second["version"], first["version"]]
    assert listed[1]["expires_at"] == pytest.approx(listed[0]["created_at"] + 3600)
    assert secrets.ok("secrets", "get", "api-key", "--show") == "another-value\n"
    assert "is disabled" in secrets.ok("secrets", "disable", "api-key")
    error = secrets.json("secrets", "get", "api-key", "--show", code=1)["error"]
    assert error["code"] == "secret.disabled"
    secrets.ok("secrets", "enable", "api-key")
    secrets.ok("secrets", "bounds", "api-key", "--expires", "2001-01-01")
    assert secrets.json("secrets", "get", "api-key", code=1)["error"]["code"] == "secret.expired"
    secrets.ok("secrets", "bounds", "api-key", "--expires", "30d")
    assert secrets.ok("secrets", "get", "api-key", "--version", first["version"], "--show") == PLANTED + "\n"
    assert [row["name"] for row in secrets.json("secrets", "list")["secrets"]] == ["api-key"]
    assert "api-key" in hidden(secrets.ok("secrets", "list", "api-"))
    secrets.ok("secrets", "delete", "api-key")
    assert secrets.json("secrets", "list", "--deleted") == {"deleted": ["api-key"]}
    assert secrets.ok("secrets", "list").strip() == "no secrets"
    secrets.ok("secrets", "recover", "api-key")
    secrets.ok("secrets", "delete", "api-key")
    secrets.ok("secrets", "purge", "api-key")
    assert secrets.json("secrets", "get", "api-key", code=1)["error"]["code"] == "secret.not_found"


def test_a_value_is_never_an_argument(secrets: Any) -> None:
    result = secrets("secrets", "set", "a", PLANTED)
    assert result.exit_code == 2
    file = Path(secrets.folder) / "value"
    file.write_text("from a file")
    secrets.ok("secrets", "set", "a", "--from-file", str(file))
    assert secrets.ok("secrets", "get", "a", "--show") == "from a file\n"
    error = secrets.json("secrets", "set", "a", "--from-file", "nowhere", code=1)["error"]
    assert "nowhere cannot be read" in error["message"]
    assert (
        secrets.json("secrets", "set", "A B", "--from-file", str(file), code=1)["error"]["code"] == "port.invalid_key"
    )


def test_what_is_no_value_or_no_span_of_time_is_wrong_usage(secrets: Any) -> None:
    result = secrets.runner.invoke(build(), ["secrets", "set", "a"], input="")
    assert result.exit_code == 2
    assert "is empty" in result.output
    put(secrets, "set", "a")
    result = secrets("secrets", "bounds", "a", "--not-before", "2030-01-01", "--expires", "2029-01-01")
    assert result.exit_code == 2
    assert "is not after" in result.output


def test_a_key_is_replaced(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(secrets, "set", "a")
    key = secrets.json("secrets", "new-key", "--id", "second")["key"]
    assert key.startswith("second:")
    assert secrets.ok("secrets", "new-key") != secrets.ok("secrets", "new-key")
    first = os.environ[KEYS]
    file = Path(secrets.folder) / "keys"
    file.write_text(f"{key}\n{first}\n")
    monkeypatch.delenv(KEYS)
    monkeypatch.setenv(KEYS_FILE, str(file))
    assert secrets.json("secrets", "reseal") == {"resealed": 1, "current": 0}
    assert "0 re-sealed, 1" in secrets.ok("secrets", "reseal")
    file.write_text(f"{key}\n")
    assert secrets.ok("secrets", "get", "a", "--show") == PLANTED + "\n"
    monkeypatch.setenv(KEYS_FILE, "nowhere")
    assert "nowhere cannot be read" in secrets.json("secrets", "get", "a", code=1)["error"]["message"]
    monkeypatch.delenv(KEYS_FILE)
    assert "loom secrets new-key" in secrets.json("secrets", "get", "a", code=1)["error"]["message"]


@pytest.mark.slow
def test_no_command_shows_what_a_reference_stands_for(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = secrets.folder
    monkeypatch.setenv("LOOM_SECRETS_URL", f"sqlite:///{folder}/secrets.db")
    put(secrets, "set", "api-key")
    # Where it does not belong, the adapter repeats it in its error; the command does not.
    monkeypatch.setenv("LOOM_URL", f"sqlite:///{folder}/loom.db?busy_timeout=${{secret:api-key}}")
    for command in (
        ("doctor",), ("check",), ("check", "--connect"), ("status",), ("runs", "list"), ("journal",), ("dlq", "list"),
        ("call", "Account", "a", "hello", "x"), ("start", "refund", "r", "x"), ("secrets", "list"), ("plugins",),
        ("secrets", "get", "api-key"), ("secrets", "get", "nobody"),
    ):  # fmt: skip
        for arguments in (command, (*command, "--json")):
            result = secrets(*arguments)
            hidden(result.output)
            hidden(result.stderr)
            hidden(str(result.exception) if not isinstance(result.exception, SystemExit) else "")


def test_what_hosts_and_their_commands_say(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = secrets.folder
    monkeypatch.setenv("LOOM_SECRETS_URL", f"sqlite:///{folder}/secrets.db")
    put(secrets, "set", "seconds", value="31.00125")
    monkeypatch.setenv("LOOM_URL", f"sqlite:///{folder}/loom.db?busy_timeout=${{secret:seconds}}")
    found = secrets.json("doctor")
    rows = {row["check"]: row["found"] for row in found["checks"]}
    assert "31.00125" not in json.dumps(found)
    assert "${secret:seconds}" in rows["journal"]
    assert rows["secrets: sealing keys"] == "first seals (LOOM_SECRETS_KEYS)"


CARELESS = """
import logging

from loom import Actor, Loom
from loom.secrets import SecretsClient


class Careless(Actor[dict]):
    async def connect(self) -> str:
        value = (await self.ctx.resource(SecretsClient).get("api-key")).reveal()
        logging.getLogger("careless").warning("connecting with %s", value)
        raise ConnectionError(f"refused: {value}")


app = Loom(actors=[Careless])
"""


@pytest.mark.slow
def test_a_careless_host_shows_and_stores_nothing(secrets: Any) -> None:
    folder = secrets.folder
    (folder / "careless.py").write_text(CARELESS)
    put(secrets, "set", "api-key")
    environ = {KEYS: os.environ[KEYS], "LOOM_SECRETS_URL": f"sqlite:///{folder}/loom.db"}
    host = secrets.spawn("run", "careless:app", "--json", **environ)
    try:
        assert host.stdout is not None
        shown = [host.stdout.readline()]
        assert json.loads(shown[0])["event"] == "started"
        error = secrets.json("call", "Careless", "a", "connect", code=1)["error"]
        assert "refused: ***" in error["message"]
        assert "refused: ***" in json.dumps(secrets.json("journal", "Careless/a"))
        for command in (("journal",), ("journal", "Careless/a"), ("dlq", "list"), ("status",)):
            hidden(secrets(*command).output)
            hidden(secrets(*command, "--json").output)
    finally:
        host.terminate()
        rest, _ = host.communicate(timeout=60)
    assert "connecting with ***" in hidden(shown[0] + rest)
    for file in folder.rglob("*"):
        if file.is_file():
            assert PLANTED.encode() not in file.read_bytes(), file
