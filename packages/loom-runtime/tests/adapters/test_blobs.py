"""The blob stores of the core: the conformance suite, the model, and what is particular to files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from loom.adapters.filesystem.blobs import FileBlobStore
from loom.adapters.filesystem.names import file_name, name_in
from loom.adapters.memory.blobs import InMemoryBlobStore
from loom.errors import BlobError, EphemeralAdapterWarning, StoreUnavailableError
from loom.plugins.spec import Durability, Reach
from loom.plugins.urls import AdapterContext, LoomURL
from loom.ports.blobs import BlobStore
from loom.testing.clock import ManualClock
from loom.testing.machines.blobs import blobs_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.blobs import BlobStoreSuite
from loom.testing.suites.keys import HOSTILE_KEYS

FAST = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestInMemoryBlobStore(BlobStoreSuite):
    def harness(self, tmp_path: Path) -> Harness[BlobStore]:
        clock = ManualClock()
        world = InMemoryBlobStore(clock=clock)
        return Harness(lambda: InMemoryBlobStore.sharing(world), clock=clock)


class TestFileBlobStore(BlobStoreSuite):
    durability = Durability.MACHINE
    reach = Reach.HOST

    def harness(self, tmp_path: Path) -> Harness[BlobStore]:
        clock, folder = ManualClock(), tmp_path / "blobs"
        return Harness(lambda: FileBlobStore(folder, clock=clock), clock=clock, url=f"file://{folder}")


def test_memory_agrees_with_the_model() -> None:
    run_state_machine_as_test(blobs_machine(InMemoryBlobStore), settings=FAST)


def test_files_agree_with_the_model(tmp_path: Path) -> None:
    folders = iter(range(1_000_000))
    run_state_machine_as_test(blobs_machine(lambda: FileBlobStore(tmp_path / str(next(folders)))), settings=FAST)


def test_memory_warns_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.warns(EphemeralAdapterWarning, match="InMemoryBlobStore"):
        InMemoryBlobStore()


def test_urls_name_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    context = AdapterContext()
    for url, folder in (
        ("file:///var/lib/loom%20blobs", Path("/var/lib/loom blobs")),
        ("sqlite:///loom.db", tmp_path / "loom.db.blobs"),
        ("sqlite:////var/lib/loom.db", Path("/var/lib/loom.db.blobs")),
    ):
        assert FileBlobStore.from_url(LoomURL.parse(url), context).folder == folder


def test_file_names_differ_on_file_systems_that_fold_case_and_are_readable_where_short() -> None:
    names = [*HOSTILE_KEYS, "reports/2026.pdf", file_name("x" * 4096).removesuffix(".blob")]
    files = {name: file_name(name) for name in names}
    assert len({file.casefold() for file in files.values()}) == len(names)
    assert files["reports/2026.pdf"] == "reports%2f2026.pdf.blob"
    for name, file in files.items():
        assert len(file) <= 255
        assert not file.startswith(".")
        assert set(file) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-%~")
        assert name_in(file) in (name, None)
        assert (name_in(file) is None) is (len(name.encode()) > 60 and "~" in file)


async def test_what_a_killed_writer_left_is_swept_after_a_day(tmp_path: Path) -> None:
    async with FileBlobStore(tmp_path) as store:
        await store.put("a", b"x")
    old, new = tmp_path / ".parts" / "old", tmp_path / ".parts" / "new"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    async with FileBlobStore(tmp_path) as store:
        assert [info.name for info in (await store.list()).blobs] == ["a"]
        assert not old.exists()
        assert new.exists()


async def test_a_failed_put_leaves_no_file(tmp_path: Path) -> None:
    async with FileBlobStore(tmp_path) as store:
        await store.put("a", b"x")
        with pytest.raises(BlobError):
            await store.put("a", b"y", create_only=True)
        assert list((tmp_path / ".parts").iterdir()) == []


async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    async with FileBlobStore(tmp_path) as store:
        await store.put("a", b"content")
        with (tmp_path / "a.blob").open("r+b") as file:
            file.truncate(10)
        with pytest.raises(BlobError, match=r"a\.blob"):
            await store.get("a")
        await store.put("a", b"again")
        assert await store.get("a") == b"again"


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileBlobStore(tmp_path / "file" / "blobs")
    with pytest.raises(StoreUnavailableError, match="blobs"):
        await store.start()
    with pytest.raises(StoreUnavailableError, match="start"):
        await store.info("a")
