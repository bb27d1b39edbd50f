"""Payloads of the runtime, sealed: nothing of them is readable in the stores, and nothing changed is taken."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loom import Actor, Context, Loom, workflow
from loom.errors import ConfigurationError, CorruptEntryError, SealError, SealKeyError
from loom.sealing import KEYS, Keyring, new_key
from loom.sealing.codec import SealingCodec
from loom.settings import load_settings

PLANTED = "planted-7hQ2xZ-in-state"
OLD, NEW = new_key("old"), new_key("new")


class Note(msgspec.Struct):
    text: str = ""


class Diary(Actor[Note]):
    async def write(self, text: str) -> int:
        self.state.text += text
        return len(self.state.text)

    async def read(self) -> str:
        return self.state.text


@workflow
async def keep(ctx: Context, text: str) -> str:
    return await ctx.actor(Diary, "kept").read() + text


def app(folder: Path, *codecs: SealingCodec) -> Loom:
    return Loom(actors=[Diary], workflows=[keep], url=f"sqlite:///{folder}/loom.db", payload_codecs=codecs)


def sealed_by(keys: str, **options: bool) -> SealingCodec:
    return SealingCodec(Keyring.parse(keys), **options)


def bytes_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def test_nothing_of_state_is_readable_in_the_store(tmp_path: Path) -> None:
    async with app(tmp_path, sealed_by(OLD)) as running:
        for _ in range(3):
            await running.actor(Diary, "a").write(PLANTED)
        run = running.workflow(keep, "r")
        await run.start(PLANTED)
        assert await run.result(timeout=60) == PLANTED
        assert PLANTED.encode() not in bytes_in(tmp_path)
    async with app(tmp_path, sealed_by(f"{NEW},{OLD}")) as running:
        assert await running.actor(Diary, "a").read() == PLANTED * 3
        await running.actor(Diary, "a").write("!")
    assert PLANTED.encode() not in bytes_in(tmp_path)
    async with app(tmp_path, sealed_by(NEW)) as running:
        with pytest.raises(CorruptEntryError, match="sealed by key 'old'"):
            await running.actor(Diary, "a").read()


async def test_what_was_there_before_is_read_where_that_is_allowed(tmp_path: Path) -> None:
    async with app(tmp_path) as running:
        await running.actor(Diary, "a").write("before ")
    async with app(tmp_path, sealed_by(OLD)) as running:
        with pytest.raises(CorruptEntryError, match="accept_plain=True"):
            await running.actor(Diary, "a").read()
    async with app(tmp_path, sealed_by(OLD, accept_plain=True)) as running:
        await running.actor(Diary, "a").write(PLANTED)
        assert await running.actor(Diary, "a").read() == f"before {PLANTED}"
    assert PLANTED.encode() not in bytes_in(tmp_path)


async def test_one_setting_switches_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app(tmp_path) as running:
        await running.actor(Diary, "a").write("before ")
    monkeypatch.setenv("LOOM_SEAL", "new")
    with pytest.raises(ConfigurationError, match="no key to seal with"):
        await app(tmp_path).__aenter__()
    monkeypatch.setenv(KEYS, OLD)
    async with app(tmp_path) as running, running.client() as client:
        await client.actor(Diary, "a").write(PLANTED)
        assert await running.actor(Diary, "a").read() == f"before {PLANTED}"
    assert PLANTED.encode() not in bytes_in(tmp_path)
    monkeypatch.setenv("LOOM_SEAL", "all")
    async with app(tmp_path) as running:
        await running.actor(Diary, "b").write(PLANTED)
        assert await running.actor(Diary, "b").read() == PLANTED
        with pytest.raises(CorruptEntryError, match="is not sealed"):
            await running.actor(Diary, "a").read()
    for wrong in ("on", "ALL"):
        monkeypatch.setenv("LOOM_SEAL", wrong)
        with pytest.raises(ConfigurationError, match="LOOM_SEAL: the sealing of payloads must be off, new or all"):
            _ = app(tmp_path).settings
    (tmp_path / "loom.toml").write_text('[loom]\nseal = "all"\n')
    settings = load_settings(toml_path=tmp_path / "loom.toml", environ={})
    assert (settings.seal, settings.source_of("seal").kind) == ("all", "file")


@pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 1000, PLANTED.encode()])
def test_what_was_sealed_is_opened(data: bytes) -> None:
    codec, other = sealed_by(OLD), sealed_by(f"{NEW},{OLD}")
    sealed = codec.encode(data)
    assert codec.encode(data) != sealed, "no nonce is used twice"
    assert codec.decode(sealed) == other.decode(sealed) == data
    assert codec.decode(codec.encode(sealed)) == sealed
    with pytest.raises(SealKeyError):
        codec.decode(other.encode(data))


def test_what_was_changed_is_not_opened() -> None:
    codec = sealed_by(OLD)
    sealed = codec.encode(PLANTED.encode())
    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(SealError) as caught:
            codec.decode(changed)
        assert PLANTED not in str(caught.value)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            codec.decode(sealed[:length])
    with pytest.raises(SealError, match="not sealed"):
        codec.decode(PLANTED.encode())
    with pytest.raises(SealError, match="another key of that id"):
        sealed_by(new_key("old")).decode(sealed)
