"""Secrets in an app: references in its URLs, the client in turns and steps, and nothing of a value left anywhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loom import Actor, Loom
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.secrets import SqliteSecretsStore
from loom.errors import SecretReferenceError, SerializationError
from loom.guard import Finding, GuardConfig, GuardRule
from loom.sealing import KEYS, Keyring, new_key
from loom.secrets import InMemorySecretsClient, SecretsClient

PLANTED = "planted-7hQ2xZ-never-shown"


class Seen(msgspec.Struct):
    lengths: list[int] = []
    kept: Any = None


class Caller(Actor[Seen]):
    async def use(self, name: str) -> int:
        value = await self.ctx.resource(SecretsClient).get(name)
        self.state.lengths.append(len(value.reveal()))
        return self.state.lengths[-1]

    async def keep(self, name: str) -> None:
        self.state.kept = await self.ctx.resource(SecretsClient).get(name)

    async def fail(self, name: str) -> None:
        value = await self.ctx.resource(SecretsClient).get(name)
        logging.getLogger("app").warning("connecting with %s", value.reveal())
        raise RuntimeError(f"cannot connect with {value.reveal()}")

    async def step(self, name: str) -> str:
        value = await self.ctx.resource(SecretsClient).get(name)

        def connect() -> None:
            raise OSError(f"refused: {value.reveal()}")

        try:
            await self.ctx.step(connect)()
        except OSError as error:
            return str(error)
        return "no error"


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store of secrets in it."""
    monkeypatch.setenv(KEYS, new_key("test"))
    monkeypatch.setenv("LOOM_SECRETS_URL", f"sqlite:///{tmp_path}/secrets.db")
    monkeypatch.setenv("LOOM_URL", f"sqlite:///{tmp_path}/loom.db")
    async with SqliteSecretsStore(Database(tmp_path / "secrets.db")) as store:
        await store.set("api-key", PLANTED)
        await store.set("busy", "5000")
    return tmp_path


def hunt(folder: Path, *texts: str) -> None:
    for text in texts:
        assert PLANTED not in text
    for file in folder.rglob("*"):
        if file.is_file():
            assert PLANTED.encode() not in file.read_bytes(), file


async def test_nothing_of_a_value_is_left_anywhere(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Loom(actors=[Caller]) as app:
            caller = app.actor(Caller, "a")
            assert await caller.use("api-key") == len(PLANTED)
            with pytest.raises(RuntimeError, match=r"cannot connect with \*\*\*"):
                await app.actor(Caller, "a", idempotency_key="k").fail("api-key")
            assert await caller.step("api-key") == "refused: ***"
            with pytest.raises(SerializationError, match="SecretValue can't be serialised"):
                await caller.keep("api-key")
            assert (await app.secrets.get("api-key")).reveal() == PLANTED
            hunt(folder)
    assert "connecting with ***" in caplog.text
    hunt(folder, caplog.text)


async def test_a_reference_in_a_url_is_resolved_when_the_app_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOM_URL", f"sqlite:///{folder}/loom.db?busy_timeout=${{secret:busy}}")
    app = Loom(actors=[Caller])
    shown = str(app.settings.url_for("journal")[0])
    assert "${secret:busy}" in shown
    async with app:
        assert await app.actor(Caller, "a").use("api-key") == len(PLANTED)
        async with app.client() as client:
            assert await client.actor(Caller, "a").use("api-key") == len(PLANTED)
        assert await app.actor(Caller, "a").use("busy") == 4


async def test_a_reference_that_leads_nowhere_stops_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_URL", f"sqlite:///{folder}/loom.db?busy_timeout=${{secret:nobody}}")
    app = Loom(actors=[Caller])
    with pytest.raises(SecretReferenceError, match=r"LOOM_URL: \$\{secret:nobody\}: there is no secret"):
        await app.__aenter__()
    monkeypatch.delenv("LOOM_SECRETS_URL")
    with pytest.raises(SecretReferenceError, match=r"cannot be opened by a .* set LOOM_SECRETS_URL"):
        await Loom(url="sqlite:///loom.db?busy_timeout=${secret:busy}").__aenter__()


async def test_a_store_that_was_handed_in_is_used(tmp_path: Path) -> None:
    store = SqliteSecretsStore(Database(tmp_path / "mine.db"), keyring=Keyring.parse(new_key("mine")))
    async with store:
        await store.set("a", "handed in")
    async with Loom(actors=[Caller], url=f"sqlite:///{tmp_path}/loom.db", adapters={"secrets": store}) as app:
        assert await app.actor(Caller, "a").use("a") == 9


@pytest.mark.filterwarnings("ignore::loom.guard.GuardWarning")
async def test_in_production_the_guard_looks_at_the_opened_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Look(GuardRule):
        code, severity, summary, remedy = "look", "warn", "looks", "nothing"

        async def check(self, config: GuardConfig) -> list[Finding]:
            seen.append(config.adapters.get("secrets"))
            return []

    monkeypatch.setenv("LOOM_ENV", "production")
    monkeypatch.setattr("loom.guard.collect_rules", lambda _: [Look()])
    async with Loom(actors=[Caller]):
        assert isinstance(seen[-1], SqliteSecretsStore)


async def test_a_test_replaces_the_client(folder: Path) -> None:
    app = Loom(actors=[Caller])
    async with app, InMemorySecretsClient({"api-key": "four"}) as secrets:
        with app.override(SecretsClient, secrets):
            assert await app.actor(Caller, "a").use("api-key") == 4
        assert await app.actor(Caller, "a").use("api-key") == len(PLANTED)


async def test_an_app_without_secrets_opens_no_store(tmp_path: Path) -> None:
    class Plain(Actor[Seen]):
        async def hello(self) -> str:
            return "hello"

    urls = {"secrets": "nosuch://place"}
    async with Loom(actors=[Plain], url=f"sqlite:///{tmp_path}/loom.db", urls=urls, env="test") as app:
        assert await app.actor(Plain, "a").hello() == "hello"
