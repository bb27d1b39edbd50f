"""What every SecretsStore must do."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle

import msgspec
import pytest

from ...errors import (
    InvalidKeyError,
    SecretDeletedError,
    SecretDisabledError,
    SecretExpiredError,
    SecretNotFoundError,
    SecretNotYetValidError,
    TooLargeError,
)
from ...plugins.spec import Durability, Feature, Reach
from ...ports.secrets import MAX_SECRET_BYTES, MIN_VERSIONS, Secret, SecretsStore, SecretVersion
from ...sealing import KEYS, KEYS_FILE, new_key
from .base import Harness, Suite, scenario
from .child import report, run_child

__all__ = ["SecretsStoreSuite"]

H = Harness[SecretsStore]

BAD_NAMES = ("", "A", "a b", "a/b", "a_b", "a.b", "ä", "a\n", "x" * 91, "${secret:a}")
VALUES = ("x", " ", "\x00\n\t", "é日😀", "${secret:other}", "x" * MAX_SECRET_BYTES)


async def set_and_report(store: SecretsStore, writer: str) -> None:
    """Child: add versions of secrets against others, and report each that was acknowledged."""
    number = 0
    while True:
        for name in ("a", "b"):
            about = await store.set(name, f"{writer}-{number}")
            report([name, about.version, f"{writer}-{number}"])
        number += 1


async def value(store: SecretsStore, name: str, version: str | None = None) -> str:
    """The text of a secret."""
    return (await store.get(name, version)).value.reveal()


async def everything(store: SecretsStore, prefix: str = "", limit: int = 100) -> list[SecretVersion]:
    """All pages of a list."""
    found: list[SecretVersion] = []
    cursor: str | None = None
    while True:
        page, cursor = await store.list(prefix=prefix, limit=limit, cursor=cursor)
        assert len(page) <= limit
        found += page
        if cursor is None:
            return found


class _Base(Suite[SecretsStore]):
    @pytest.fixture(autouse=True)
    def _sealing_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key for stores that seal, unless the test has one; the processes that it starts have it too."""
        monkeypatch.delenv(KEYS_FILE, raising=False)
        monkeypatch.setenv(KEYS, new_key("suite"))


class _Versions(_Base):
    @scenario()
    async def test_setting_adds_a_version_that_becomes_current(self, h: H) -> None:
        with pytest.raises(SecretNotFoundError):
            await h.adapter.get("a")
        with pytest.raises(SecretNotFoundError):
            await h.adapter.versions("a")
        made = []
        for number, text in enumerate(VALUES):
            about = await h.adapter.set("a", text)
            made.append(about)
            assert (about.name, about.enabled, about.expires_at) == ("a", True, None)
            assert about.created_at == pytest.approx(h.now(), abs=5)
            assert (await h.adapter.get("a")).about.version == about.version
            assert await value(h.adapter, "a") == text
            assert len({v.version for v in made}) == number + 1
            await h.pass_time(1 if h.clock is not None else 0)
        assert [v.version for v in await h.adapter.versions("a")] == [v.version for v in reversed(made)]
        for about, text in zip(made, VALUES, strict=True):
            assert await value(h.adapter, "a", about.version) == text
        with pytest.raises(SecretNotFoundError):
            await h.adapter.get("a", "0" * 32)
        with pytest.raises(SecretNotFoundError):
            await h.adapter.get("b", made[0].version)

    @scenario()
    async def test_what_a_caller_sees_shows_no_value(self, h: H) -> None:
        text = "planted-7hQ2xZ"
        about = await h.adapter.set("a", text)
        secret = await h.adapter.get("a")
        page, _ = await h.adapter.list()
        shown = [about, secret, secret.value, page, await h.adapter.versions("a"), await h.adapter.facts(), h.adapter]
        for thing in shown:
            for said in (repr(thing), str(thing), f"{thing}", f"{thing!r}"):
                assert text not in said
        assert f"{secret.value:>10}" == "***"
        for encode in (json.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps):
            for hidden in (secret, secret.value):
                with pytest.raises(TypeError):
                    encode(hidden)
        assert text.encode() not in msgspec.json.encode(secret, enc_hook=str)
        assert copy.deepcopy(secret) == secret == Secret(about=secret.about, value=copy.copy(secret.value))
        assert secret.value != text
        for bad in (BAD_NAMES[1], "missing"):
            with pytest.raises((InvalidKeyError, SecretNotFoundError)) as caught:
                await h.adapter.get(bad)
            assert text not in str(caught.value)

    @scenario()
    async def test_bad_names_and_values_are_refused(self, h: H) -> None:
        store = h.adapter
        for name in BAD_NAMES:
            for call in (store.set(name, "x"), store.get(name), store.versions(name), store.delete(name)):
                with pytest.raises(InvalidKeyError):
                    await call
            with pytest.raises(InvalidKeyError):
                await store.update(name, "1", enabled=False)
        planted = "planted-7hQ2xZ"
        for text, error in (("", ValueError), (planted + "\ud800", ValueError), (planted * 3000, TooLargeError)):
            with pytest.raises(error) as caught:
                await store.set("a", text)
            assert planted not in str(caught.value) + repr(caught.value.__cause__)
        with pytest.raises(ValueError, match="expires_at"):
            await store.set("a", "x", not_before=h.now() + 20, expires_at=h.now() + 10)
        with pytest.raises(ValueError, match="limit"):
            await store.list(limit=0)
        assert await store.list() == ([], None)

    @scenario()
    async def test_a_list_has_the_newest_version_of_each_in_order(self, h: H) -> None:
        names = sorted(
            ["a", "a-", "a-b", "ab", "b", "b-1", "b-2", "0", "-", "x" * 90, *(f"n{i:03d}" for i in range(30))]
        )
        newest = {}
        for name in reversed(names):
            await h.adapter.set(name, "first")
        for name in names:
            newest[name] = (await h.adapter.set(name, "second")).version
        await h.adapter.update("b", newest["b"], enabled=False)
        for limit in (100, 7):
            found = await everything(h.adapter, limit=limit)
            assert [about.name for about in found] == names
            assert {about.name for about in found if not about.enabled} == {"b"}
            assert all(about.version in ("", newest[about.name]) for about in found)
        assert [about.name for about in await everything(h.adapter, "b-")] == ["b-1", "b-2"]
        assert [about.name for about in await everything(h.adapter, "a")] == ["a", "a-", "a-b", "ab"]
        assert await everything(h.adapter, "zz") == []
        with pytest.raises(InvalidKeyError):
            await h.adapter.list(prefix="A")

    @scenario()
    async def test_the_newest_versions_are_kept(self, h: H) -> None:
        made = [await h.adapter.set("a", f"value {number}") for number in range(MIN_VERSIONS + 3)]
        kept = {about.version for about in await h.adapter.versions("a")}
        for number, about in list(enumerate(made))[-MIN_VERSIONS:]:
            assert about.version in kept
            if number % 20 == 0 or number == 3:
                assert await value(h.adapter, "a", about.version) == f"value {number}"


class _Bounds(_Base):
    @scenario()
    async def test_a_disabled_version_raises(self, h: H) -> None:
        first, second = await h.adapter.set("a", "first"), await h.adapter.set("a", "second")
        assert (await h.adapter.update("a", second.version, enabled=False)).enabled is False
        for version in (None, second.version):
            with pytest.raises(SecretDisabledError):
                await h.adapter.get("a", version)
        assert await value(h.adapter, "a", first.version) == "first"
        assert [about.enabled for about in await h.adapter.versions("a")] == [False, True]
        await h.adapter.update("a", second.version, enabled=True)
        assert await value(h.adapter, "a") == "second"
        with pytest.raises(SecretNotFoundError):
            await h.adapter.update("a", "0" * 32, enabled=False)
        with pytest.raises(SecretNotFoundError):
            await h.adapter.update("missing", second.version, enabled=False)

    @scenario()
    async def test_an_expired_version_raises(self, h: H) -> None:
        unit = max(h.unit, 2.0)
        first = await h.adapter.set("a", "first")
        second = await h.adapter.set("a", "second", expires_at=h.now() + 2 * unit)
        assert await value(h.adapter, "a") == "second"
        await h.pass_time(2 * unit + 1)
        for version in (None, second.version):
            with pytest.raises(SecretExpiredError):
                await h.adapter.get("a", version)
        assert await value(h.adapter, "a", first.version) == "first"
        assert [about.version for about in await h.adapter.versions("a")] == [second.version, first.version]
        await h.adapter.update("a", second.version, expires_at=h.now() + 1000)
        assert await value(h.adapter, "a") == "second"
        await h.adapter.update("a", second.version, expires_at=None)
        await h.adapter.update("a", second.version, enabled=True)
        await h.pass_time(2 * unit if h.clock is None else 2000)
        assert await value(h.adapter, "a") == "second"

    @scenario()
    async def test_a_version_for_later_leaves_the_one_before_it_current(self, h: H) -> None:
        unit = max(h.unit, 2.0)
        later = await h.adapter.set("a", "later", not_before=h.now() + 2 * unit)
        for version in (None, later.version):
            with pytest.raises(SecretNotYetValidError):
                await h.adapter.get("a", version)
        now = await h.adapter.set("b", "now")
        later = await h.adapter.set("b", "later", not_before=h.now() + 2 * unit)
        assert await value(h.adapter, "b") == "now"
        await h.adapter.update("b", now.version, enabled=False)
        with pytest.raises(SecretDisabledError):
            await h.adapter.get("b")
        await h.pass_time(2 * unit + 1)
        assert await value(h.adapter, "b") == "later"
        assert await value(h.adapter, "a") == "later"

    @scenario()
    async def test_rotation_overlaps(self, h: H) -> None:
        unit = max(h.unit, 2.0)
        with pytest.raises(SecretNotFoundError):
            await h.adapter.rotate("a", "x")
        first = await h.adapter.set("a", "first")
        rotation = await h.adapter.rotate("a", "second", overlap=3 * unit)
        assert rotation.old is not None
        assert (rotation.old.version, rotation.name) == (first.version, "a")
        assert await value(h.adapter, "a") == "second"
        assert await value(h.adapter, "a", first.version) == "first"
        ends = {about.version: about.expires_at for about in await h.adapter.versions("a")}
        assert ends[first.version] == pytest.approx(rotation.new.created_at + 3 * unit, abs=1)
        assert ends[rotation.new.version] is None
        await h.pass_time(3 * unit + 1)
        with pytest.raises(SecretExpiredError):
            await h.adapter.get("a", first.version)
        assert await value(h.adapter, "a", rotation.new.version) == "second"
        with pytest.raises(ValueError, match="overlap"):
            await h.adapter.rotate("a", "x", overlap=-1)


class _Deletion(_Base):
    @scenario()
    async def test_deleting_takes_all_versions(self, h: H) -> None:
        about = await h.adapter.set("a", "x")
        await h.adapter.set("b", "y")
        await h.adapter.delete("a")
        for call in (h.adapter.get("a"), h.adapter.get("a", about.version), h.adapter.versions("a")):
            with pytest.raises(SecretNotFoundError):
                await call
        with pytest.raises(SecretNotFoundError):
            await h.adapter.delete("a")
        with pytest.raises(SecretNotFoundError):
            await h.adapter.update("a", about.version, enabled=True)
        assert [about.name for about in await everything(h.adapter)] == ["b"]

    @scenario(Feature.SOFT_DELETE)
    async def test_a_deleted_secret_is_recovered_as_it_was(self, h: H) -> None:
        for name in ("a", "b", "b-2"):
            await h.adapter.set(name, f"first {name}")
        old = (await h.adapter.versions("a"))[0]
        second = await h.adapter.set("a", "second", expires_at=h.now() + 10_000)
        await h.adapter.update("a", old.version, enabled=False)
        before = await h.adapter.versions("a")
        for name in ("a", "b", "b-2"):
            await h.adapter.delete(name)
        names, _ = await h.adapter.deleted()
        assert names == ["a", "b", "b-2"]
        assert (await h.adapter.deleted(prefix="b-"))[0] == ["b-2"]
        with pytest.raises(SecretDeletedError):
            await h.adapter.set("a", "third")
        await h.adapter.recover("a")
        assert await h.adapter.versions("a") == before
        assert await value(h.adapter, "a") == "second"
        assert await value(h.adapter, "a", second.version) == "second"
        with pytest.raises(SecretNotFoundError):
            await h.adapter.recover("a")
        with pytest.raises(SecretNotFoundError):
            await h.adapter.recover("missing")
        assert (await h.adapter.deleted())[0] == ["b", "b-2"]

    @scenario(Feature.SOFT_DELETE)
    async def test_a_purged_secret_is_gone_and_its_name_free(self, h: H) -> None:
        about = await h.adapter.set("a", "x")
        with pytest.raises(SecretNotFoundError):
            await h.adapter.purge("a")
        assert await value(h.adapter, "a") == "x"
        await h.adapter.delete("a")
        await h.adapter.purge("a")
        for call in (h.adapter.purge("a"), h.adapter.recover("a"), h.adapter.get("a")):
            with pytest.raises(SecretNotFoundError):
                await call
        new = await h.adapter.set("a", "y")
        assert [v.version for v in await h.adapter.versions("a")] == [new.version]
        with pytest.raises(SecretNotFoundError):
            await h.adapter.get("a", about.version)


class _Races(_Base):
    @scenario()
    async def test_racing_writers_lose_no_version(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        made = await asyncio.gather(*(clients[n % 2].set("a", str(n)) for n in range(12)))
        assert {about.version for about in await h.adapter.versions("a")} == {about.version for about in made}
        for number, about in enumerate(made):
            assert await value(clients[number % 2], "a", about.version) == str(number)
        off = made[::3]
        await asyncio.gather(
            *(clients[n % 2].update("a", about.version, enabled=False) for n, about in enumerate(off)),
            *(clients[n % 2].set("a", "more") for n in range(4)),
        )
        found = await h.adapter.versions("a")
        assert {about.version for about in found if not about.enabled} == {about.version for about in off}
        assert len(found) == 16

    @scenario()
    async def test_another_client_reads_what_was_written(self, h: H) -> None:
        other = await h.second()
        for number in range(10):
            about = await h.adapter.set("a", f"value {number}")
            assert await value(other, "a") == f"value {number}"
            await other.update("a", about.version, enabled=False)
            with pytest.raises(SecretDisabledError):
                await h.adapter.get("a")

    @scenario()
    async def test_a_cancelled_set_is_whole_or_absent(self, h: H) -> None:
        for number in range(12):
            call = asyncio.create_task(h.adapter.set("a", f"value {number}"))
            for _ in range(number):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await h.adapter.set("a", "last")
        for about in await h.adapter.versions("a"):
            assert await value(h.adapter, "a", about.version)
        assert await value(h.adapter, "a") == "last"


class _Crash(_Base):
    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        first = await h.adapter.set("a", "first")
        await h.adapter.set("a", "second")
        await h.adapter.update("a", first.version, enabled=False)
        await h.adapter.set("gone", "x")
        await h.adapter.delete("gone")
        before = await h.adapter.versions("a")
        store = await h.reopen()
        assert await store.versions("a") == before
        assert await value(store, "a") == "second"
        with pytest.raises(SecretDisabledError):
            await store.get("a", first.version)
        with pytest.raises(SecretNotFoundError):
            await store.get("gone")

    @scenario(durability=Durability.PROCESS, reach=Reach.HOST, url=True)
    async def test_killed_processes_that_raced_have_kept_every_version(self, h: H) -> None:
        assert h.url is not None
        async with (
            run_child(set_and_report, h.adapter, h.url, "one") as one,
            run_child(set_and_report, h.adapter, h.url, "two") as two,
        ):
            for child in (one, two):
                while len(child.lines) < 20 and await child.read() is not None:
                    pass
            reports = [*await one.kill(), *await two.kill()]
        store = await h.reopen()
        kept = {name: [about.version for about in await store.versions(name)] for name in ("a", "b")}
        for name, version, text in reports:
            if version in kept[name][:MIN_VERSIONS]:
                assert await value(store, name, version) == text
        for name in ("a", "b"):
            assert len(kept[name]) >= min(MIN_VERSIONS, sum(of == name for of, _, _ in reports))


class SecretsStoreSuite(_Versions, _Bounds, _Deletion, _Races, _Crash):
    """All that a SecretsStore must do."""
