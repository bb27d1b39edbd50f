"""What every BlobStore must do: content, ranges, conditions, metadata, names, listing."""

from __future__ import annotations

import asyncio

import pytest

from ...errors import BlobConflictError, BlobNotFoundError, InvalidKeyError
from ...ports.blobs import BlobInfo, BlobStore
from .base import Harness, Suite, scenario
from .blobs_crash import BlobCrashSuite
from .blobs_streams import BlobStreamSuite, read
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["BlobStoreSuite"]

H = Harness[BlobStore]


async def listed(store: BlobStore, prefix: str = "", limit: int = 1000) -> list[BlobInfo]:
    """All blobs under the prefix, page by page."""
    found: list[BlobInfo] = []
    cursor: str | None = None
    while True:
        page = await store.list(prefix, limit=limit, cursor=cursor)
        assert len(page.blobs) <= limit
        found += page.blobs
        cursor = page.cursor
        if cursor is None:
            return found


class _Blobs(Suite[BlobStore]):
    @scenario()
    async def test_what_was_put_is_there_whole(self, h: H) -> None:
        assert await h.adapter.info("a") is None
        for data in (b"", b"x", bytes(range(256)) * 100):
            info = await h.adapter.put("a", data, content_type="text/é", metadata={"k": "v", "é": ""})
            assert (info.name, info.size, info.content_type) == ("a", len(data), "text/é")
            assert info.metadata == {"k": "v", "é": ""}
            assert info.modified_at == pytest.approx(h.now(), abs=60)
            assert await h.adapter.info("a") == info
            assert await h.adapter.get("a") == data
        plain = await h.adapter.put("a", b"plain")
        assert (plain.content_type, plain.metadata) == ("application/octet-stream", {})

    @scenario()
    async def test_a_blob_that_is_not_there(self, h: H) -> None:
        with pytest.raises(BlobNotFoundError):
            await h.adapter.get("absent")
        with pytest.raises(BlobNotFoundError):
            await read(h.adapter, "absent", start=5, length=0)
        assert await h.adapter.delete("absent") is False
        assert await listed(h.adapter) == []

    @scenario()
    async def test_ranges(self, h: H) -> None:
        data = bytes(range(200))
        await h.adapter.put("a", data)
        for start in (0, 1, 199, 200, 5000):
            for length in (None, 0, 1, 100, 5000):
                expected = data[start : None if length is None else start + length]
                assert await read(h.adapter, "a", start=start, length=length) == expected
        for start, length in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match=r"."):
                await read(h.adapter, "a", start=start, length=length)

    @scenario()
    async def test_conditions(self, h: H) -> None:
        first = await h.adapter.put("a", b"1", create_only=True)
        with pytest.raises(BlobConflictError):
            await h.adapter.put("a", b"2", create_only=True)
        second = await h.adapter.put("a", b"1", if_match=first.etag)
        assert second.etag != first.etag
        for name in ("a", "absent"):
            with pytest.raises(BlobConflictError):
                await h.adapter.put(name, b"3", if_match=first.etag)
            with pytest.raises(BlobConflictError):
                await h.adapter.delete(name, if_match=first.etag)
        assert await listed(h.adapter) == [second]
        assert await h.adapter.delete("a", if_match=second.etag) is True
        assert await h.adapter.info("a") is None
        third = await h.adapter.put("a", b"1", create_only=True)
        assert third.etag not in (first.etag, second.etag)

    @scenario()
    async def test_of_racing_writers_one_wins_each_version(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        current = await h.adapter.put("a", b"start")
        for round_ in range(60):
            datas = [f"{round_}-{n}".encode() for n in range(4)]
            results = await asyncio.gather(
                *(clients[n % 2].put("a", data, if_match=current.etag) for n, data in enumerate(datas)),
                *(clients[n % 2].put(f"new{round_}", data, create_only=True) for n, data in enumerate(datas)),
                return_exceptions=True,
            )
            for group, name in ((results[:4], "a"), (results[4:], f"new{round_}")):
                winners = [n for n, result in enumerate(group) if isinstance(result, BlobInfo)]
                assert len(winners) == 1, group
                assert sum(isinstance(result, BlobConflictError) for result in group) == 3, group
                assert await clients[round_ % 2].get(name) == datas[winners[0]]
            found = await clients[round_ % 2].info("a")
            assert found is not None
            assert found in results
            current = found


class _Names(Suite[BlobStore]):
    @scenario()
    async def test_hostile_names_are_kept_apart(self, h: H) -> None:
        await asyncio.gather(*(h.adapter.put(key, key.encode(), metadata={"name": key}) for key in HOSTILE_KEYS))
        for key in HOSTILE_KEYS:
            info = await h.adapter.info(key)
            assert info is not None
            assert (info.name, info.metadata) == (key, {"name": key})
            assert await h.adapter.get(key) == key.encode()
        assert [info.name for info in await listed(h.adapter, limit=7)] == sorted(HOSTILE_KEYS)
        for key in HOSTILE_KEYS[::2]:
            assert await h.adapter.delete(key) is True
        assert [info.name for info in await listed(h.adapter)] == sorted(HOSTILE_KEYS[1::2])

    @scenario()
    async def test_bad_names_are_refused(self, h: H) -> None:
        for key in BAD_KEYS:
            with pytest.raises(InvalidKeyError):
                await h.adapter.put(key, b"")
            with pytest.raises(InvalidKeyError):
                await h.adapter.info(key)
            with pytest.raises(InvalidKeyError):
                await h.adapter.get(key)
            with pytest.raises(InvalidKeyError):
                await h.adapter.delete(key)
        assert await listed(h.adapter) == []

    @scenario()
    async def test_listing_by_prefix_pages_in_the_order_of_names(self, h: H) -> None:
        names = [f"{folder}/{n:02}" for folder in ("a", "a/b", "ab", "é", "%") for n in range(7)] + ["a", "A"]
        infos = {name: await h.adapter.put(name, name.encode()) for name in names}
        for prefix in ("", "a", "a/", "a/b", "%", "é", "nothing", "A"):
            expected = [infos[name] for name in sorted(names) if name.startswith(prefix)]
            for limit in (1, 5, 7, 1000):
                assert await listed(h.adapter, prefix, limit) == expected
        with pytest.raises(ValueError, match=r"."):
            await h.adapter.list(limit=0)

    @scenario()
    async def test_paging_meets_every_unchanged_blob_once_whatever_is_written(self, h: H) -> None:
        other = await h.second()
        stable = [f"{n:02}-stable" for n in range(20)]
        for name in stable:
            await h.adapter.put(name, b"")
        cursor: str | None = None
        found: list[str] = []
        for n in range(100):
            page = await h.adapter.list(limit=3, cursor=cursor)
            found += [info.name for info in page.blobs if info.name.endswith("stable")]
            cursor = page.cursor
            if cursor is None:
                break
            await other.put(f"{n:02}-new", b"")
            await other.put(f"{n // 2:02}-zz", b"")
            await other.delete(f"{n - 1:02}-new")
            if page.blobs and not page.blobs[-1].name.endswith("stable"):
                await other.delete(page.blobs[-1].name)
        assert found == stable


class BlobStoreSuite(_Blobs, _Names, BlobStreamSuite, BlobCrashSuite):
    """All that a BlobStore must do."""
