"""What lies in a store of our own: sealed, bound to its place, and sealed anew under another key."""

from __future__ import annotations

import base64
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from loom.adapters.memory.documents import InMemoryCosmos
from loom.adapters.memory.secrets import InMemorySecretsStore
from loom.adapters.sqlite.database import Database
from loom.adapters.sqlite.secrets import SqliteSecretsStore
from loom.errors import ConfigurationError, SealError, SealKeyError
from loom.ports.documents import DocumentStore
from loom.sealing import KEYS, KEYS_FILE, Keyring, new_key
from loom.sealing.codec import SealingCodec

PLANTED = "planted-7hQ2xZ-never-shown"
OLD, NEW = new_key("old"), new_key("new")


def store(documents: DocumentStore, keys: str) -> InMemorySecretsStore:
    return InMemorySecretsStore(documents, keyring=Keyring.parse(keys))


@pytest.fixture
def documents() -> InMemoryCosmos:
    return InMemoryCosmos()


def everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_the_file_holds_no_value(tmp_path: Path) -> None:
    path = tmp_path / "loom.db"
    async with SqliteSecretsStore(Database(path), keyring=Keyring.parse(OLD)) as secrets:
        await secrets.set("a", PLANTED)
        held = everything_in(tmp_path)
        assert PLANTED.encode() not in held
        for start in range(3):
            assert base64.b64encode(PLANTED.encode()[start : start + 15]) not in held
    with closing(sqlite3.connect(path)) as connection:
        assert PLANTED not in "".join(connection.iterdump())


async def test_the_wrong_key_opens_nothing(documents: InMemoryCosmos) -> None:
    async with store(documents, OLD) as secrets:
        await secrets.set("a", PLANTED)
    async with store(documents, NEW) as secrets:
        with pytest.raises(SealKeyError, match=r"sealed by key 'old', which the text does not hold \(it has new\)"):
            await secrets.get("a")
        await secrets.update("a", (await secrets.versions("a"))[0].version, enabled=True)
    async with store(documents, new_key("old")) as secrets:
        with pytest.raises(SealError, match="does not open under key 'old'") as caught:
            await secrets.get("a")
        assert PLANTED not in str(caught.value)


@pytest.mark.parametrize("field", ["sealed", "nonce", "key"])
async def test_a_changed_record_does_not_open(documents: InMemoryCosmos, field: str) -> None:
    async with store(documents, OLD) as secrets:
        about = await secrets.set("a", PLANTED)
        found = await documents.get("secrets", "a", about.version)
        assert found is not None
        text = found.body[field]
        for changed in (("A" if text[0] != "A" else "B") + text[1:], text[4:], "", "not base64!", 7):
            await documents.put("secrets", "a", about.version, {**found.body, field: changed})
            with pytest.raises(SealError) as caught:
                await secrets.get("a")
            assert PLANTED not in str(caught.value)
        await documents.put("secrets", "a", about.version, {"kind": "value"})
        with pytest.raises(SealError, match="is no sealed value"):
            await secrets.get("a")
        await documents.delete("secrets", "a", about.version)
        with pytest.raises(SealError, match="is gone"):
            await secrets.get("a")


async def test_swapped_records_do_not_open(documents: InMemoryCosmos) -> None:
    async with store(documents, OLD) as secrets:
        first, second = await secrets.set("a", "first"), await secrets.set("a", "second")
        other = await secrets.set("b", "other")
        places = [("a", first.version), ("a", second.version), ("b", other.version)]
        bodies = [(await documents.get("secrets", *place)).body for place in places]  # type: ignore[union-attr]
        for place in places:
            for body, of in zip(bodies, places, strict=True):
                await documents.put("secrets", *place, body)
                if of == place:
                    assert (await secrets.get(*place)).value.reveal() in ("first", "second", "other")
                else:
                    with pytest.raises(SealError, match="put in another's place"):
                        await secrets.get(*place)


async def test_records_of_another_store_do_not_open(documents: InMemoryCosmos) -> None:
    elsewhere = InMemoryCosmos()
    async with store(documents, OLD) as secrets, store(elsewhere, OLD) as others:
        about = await secrets.set("a", "mine")
        await others.set("a", "theirs")
        for id in ("head", about.version):
            found = await documents.get("secrets", "a", id)
            assert found is not None
            await elsewhere.put("secrets", "a", id, found.body)
        with pytest.raises(SealError):
            await others.get("a")


async def test_a_new_key_takes_over_what_is_read(documents: InMemoryCosmos) -> None:
    async with store(documents, OLD) as secrets:
        await secrets.set("read", "x")
        await secrets.set("unread", "y")
        await secrets.set("deleted", "z")
        await secrets.delete("deleted")
    async with store(documents, f"{NEW},{OLD}") as secrets:
        assert (await secrets.get("read")).value.reveal() == "x"
        done = await secrets.reseal()
        assert (done.resealed, done.current) == (2, 1)
        done = await secrets.reseal()
        assert (done.resealed, done.current) == (0, 3)
        await secrets.recover("deleted")
    async with store(documents, NEW) as secrets:
        assert [(await secrets.get(name)).value.reveal() for name in ("read", "unread", "deleted")] == ["x", "y", "z"]


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in (KEYS, KEYS_FILE):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def test_without_a_key_one_is_told_how_to_make_one(tmp_path: Path, no_keys: pytest.MonkeyPatch) -> None:
    async with SqliteSecretsStore(Database(tmp_path / "loom.db")) as secrets:
        assert await secrets.list() == ([], None)
        assert "neither" in (await secrets.facts())["sealing keys"]
        with pytest.raises(ConfigurationError, match="loom secrets new-key"):
            await secrets.set("a", "x")
        file = tmp_path / "keys"
        no_keys.setenv(KEYS_FILE, str(file))
        with pytest.raises(ConfigurationError, match="cannot be read"):
            await secrets.set("a", "x")
        file.write_text(f"# of this month\n{NEW}\n\n{OLD} # of the last\n")
        await secrets.set("a", "x")
        assert (await secrets.facts())["sealing keys"] == f"new seals, and opens what old sealed ({KEYS_FILE}={file})"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no sealing key"),
        ("# nothing", "holds no sealing key"),
        ("geheim", "key 1: write ID:BASE64"),
        (f"{OLD},k:geheim!", "key 2: write ID:BASE64"),
        ("k:Z2VoZWlt", "'k' has 6 bytes; 32 are needed"),
        (f"{OLD}\n{OLD}", "two sealing keys of one id"),
        ("a b:" + OLD.partition(":")[2], "key 1: a sealing key's id"),
    ],
    ids=["empty", "a comment", "no id", "no base64", "short", "twice", "a blank in the id"],
)
def test_a_wrong_keyring_is_told_without_its_keys(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Keyring.parse(text, "the file")
    for secret in ("geheim", "Z2VoZWlt", OLD.partition(":")[2]):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__)
    assert OLD.partition(":")[2] not in repr(Keyring.parse(OLD)) + repr(Keyring.parse(OLD).primary)


def test_two_sources_of_keys_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="both"):
        Keyring.from_environment({KEYS: OLD, KEYS_FILE: "keys"})


async def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    async with InMemorySecretsStore() as secrets:
        assert await secrets.list() == ([], None)
        with pytest.raises(ConfigurationError, match=r"pip install 'loom-runtime\[secrets\]'"):
            await secrets.set("a", "x")
    with pytest.raises(ConfigurationError, match="cryptography"):
        SealingCodec(Keyring.parse(OLD))
