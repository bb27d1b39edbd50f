"""Blobs across the end of a client, of a process, and between processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from ...errors import BlobConflictError
from ...plugins.spec import Durability, Reach
from ...ports.blobs import BlobStore
from .base import Harness, Suite, scenario
from .child import report, run_child

__all__ = ["BlobCrashSuite"]

H = Harness[BlobStore]


async def put_and_report(store: BlobStore) -> None:
    """Child: write new blobs and overwrite old ones for ever, and report each once it is acknowledged."""

    async def write(name: str) -> None:
        for n in itertools.count(1):
            await store.put(f"{name}/latest", b"%08d" % n * 1000, metadata={"n": str(n)})
            await store.put(f"{name}/{n}", b"%08d" % n, create_only=True)
            report([name, n])

    await asyncio.gather(*(write(f"w{n}") for n in range(4)))


async def append_and_report(store: BlobStore, letter: str, times: str) -> None:
    """Child: add a letter to a blob against others, and report each length that was written."""
    for _ in range(int(times)):
        while True:
            info = await store.info("contended")
            assert info is not None
            data = await store.get("contended")
            with contextlib.suppress(BlobConflictError):
                written = await store.put("contended", data + letter.encode(), if_match=info.etag)
                report(written.size)
                break


class BlobCrashSuite(Suite[BlobStore]):
    """What was acknowledged is there afterwards."""

    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        infos = [await h.adapter.put(f"{n:02}", b"%d" % n, metadata={"n": str(n)}) for n in range(10)]
        await h.adapter.delete("00")
        store = await h.reopen()
        assert (await store.list()).blobs == infos[1:]
        assert await store.get("07") == b"7"

    @scenario(durability=Durability.PROCESS, url=True)
    async def test_what_a_killed_process_had_acknowledged_is_there(self, h: H) -> None:
        assert h.url is not None
        async with run_child(put_and_report, await h.leave(), h.url) as child:
            while len(child.lines) < 80 and await child.read() is not None:
                pass
            reports = await child.kill()
        assert len(reports) >= 80
        store = await h.reopen()
        acknowledged = dict(reports)
        assert len(acknowledged) == 4
        for name, n in acknowledged.items():
            info = await store.info(f"{name}/latest")
            assert info is not None
            found = int(info.metadata["n"])
            assert found in (n, n + 1)
            assert await store.get(f"{name}/latest") == b"%08d" % found * 1000
            for done in range(1, n + 1):
                assert await store.get(f"{name}/{done}") == b"%08d" % done

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_that_race_lose_no_write(self, h: H) -> None:
        assert h.url is not None
        await h.adapter.put("contended", b"")
        async with (
            run_child(append_and_report, h.adapter, h.url, "a", "30") as one,
            run_child(append_and_report, h.adapter, h.url, "b", "30") as two,
        ):
            sizes = {"a": await one.rest(), "b": await two.rest()}
            assert (one.returncode, two.returncode) == (0, 0)
        data = (await h.adapter.get("contended")).decode()
        assert sorted(sizes["a"] + sizes["b"]) == list(range(1, 61))
        assert [n + 1 for n, letter in enumerate(data) if letter == "a"] == sizes["a"]
