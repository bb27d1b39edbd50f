"""Blobs as streams: large ones, failing and cancelled writers, readers beside writers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from ...errors import BlobConflictError
from ...plugins.spec import Durability
from ...ports.blobs import BlobStore
from .base import Harness, Suite, scenario

__all__ = ["BlobStreamSuite", "read"]

H = Harness[BlobStore]

MIB = 2**20


def same(found: bytes, expected: bytes) -> None:
    """Compared by size and hash: a difference is told in a line, where a diff of megabytes would take minutes."""
    assert (len(found), hashlib.sha256(found).hexdigest()) == (len(expected), hashlib.sha256(expected).hexdigest())


async def read(store: BlobStore, name: str, *, start: int = 0, length: int | None = None) -> bytes:
    """All chunks of a stream, each checked to be within 1 MiB."""
    chunks = [chunk async for chunk in store.stream(name, start=start, length=length)]
    assert all(0 < len(chunk) <= MIB for chunk in chunks)
    return b"".join(chunks)


async def chunks_of(size: int, chunk: int = 2**18) -> AsyncIterator[bytes]:
    """``size`` bytes, no two chunks alike."""
    for number in range(size // chunk):
        yield number.to_bytes(8, "big") * (chunk // 8)


class _Failure(Exception):
    pass


async def failing(after: int) -> AsyncIterator[bytes]:
    """Some chunks, and then an error."""
    for _ in range(after):
        yield b"half" * 2**16
    raise _Failure


class BlobStreamSuite(Suite[BlobStore]):
    """Streams in and out."""

    @scenario()
    async def test_a_stream_of_64_mebibytes(self, h: H) -> None:
        expected = hashlib.sha256()
        async for chunk in chunks_of(64 * MIB):
            expected.update(chunk)
        info = await h.adapter.put("large", chunks_of(64 * MIB))
        assert info.size == 64 * MIB
        found = hashlib.sha256()
        async for chunk in h.adapter.stream("large"):
            assert 0 < len(chunk) <= MIB
            found.update(chunk)
        assert found.digest() == expected.digest()
        start = 40 * MIB + 3
        part = await read(h.adapter, "large", start=start, length=2 * MIB)
        whole = b"".join([chunk async for chunk in chunks_of(64 * MIB)])
        same(part, whole[start : start + 2 * MIB])

    @scenario(durability=Durability.PROCESS)
    async def test_a_stream_is_never_held_whole(self, h: H) -> None:
        """What this process allocates while 32 MiB pass stays far below that. A store in its own memory is exempt."""
        tracemalloc.start()
        try:
            await h.adapter.put("large", chunks_of(32 * MIB))
            size = 0
            async for chunk in h.adapter.stream("large"):
                size += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == 32 * MIB
        assert peak < 16 * MIB

    @scenario()
    async def test_chunks_of_any_size(self, h: H) -> None:
        async def sizes() -> AsyncIterator[bytes]:
            for size in (0, 1, 3 * MIB + 1, 0, 0, 7, MIB, 0):
                yield b"%d" % (size % 10) * size

        expected = b"".join([chunk async for chunk in sizes()])
        info = await h.adapter.put("a", sizes())
        assert info.size == len(expected)
        same(await read(h.adapter, "a"), expected)

        async def nothing() -> AsyncIterator[bytes]:
            empty: tuple[bytes, ...] = ()
            for chunk in empty:
                yield chunk

        assert (await h.adapter.put("a", nothing())).size == 0
        assert await read(h.adapter, "a") == b""

    @scenario()
    async def test_an_iterator_that_raises_leaves_nothing(self, h: H) -> None:
        kept = await h.adapter.put("kept", b"whole")
        for after in (0, 1, 20):
            with pytest.raises(_Failure):
                await h.adapter.put("new", failing(after))
            with pytest.raises(_Failure):
                await h.adapter.put("kept", failing(after), if_match=kept.etag)
        assert (await h.adapter.list()).blobs == [kept]
        assert await h.adapter.get("kept") == b"whole"

    @scenario()
    async def test_a_condition_is_checked_when_the_stream_has_ended(self, h: H) -> None:
        """A slow upload does not overwrite what was written meanwhile."""
        first = await h.adapter.put("a", b"first")

        async def slow() -> AsyncIterator[bytes]:
            yield b"slow"
            await h.adapter.put("a", b"quick")
            yield b"slow"

        with pytest.raises(BlobConflictError):
            await h.adapter.put("a", slow(), if_match=first.etag)
        assert await h.adapter.get("a") == b"quick"

        async def late() -> AsyncIterator[bytes]:
            yield b"late"
            await h.adapter.put("b", b"quick")

        with pytest.raises(BlobConflictError):
            await h.adapter.put("b", late(), create_only=True)
        assert await h.adapter.get("b") == b"quick"

    @scenario()
    async def test_a_reader_keeps_the_version_that_it_began(self, h: H) -> None:
        other = await h.second()
        first, second = b"1" * (4 * MIB), b"2" * (4 * MIB)
        await h.adapter.put("a", first)
        stream = h.adapter.stream("a")
        begun = await anext(aiter(stream))
        await other.put("a", second)
        rest = b"".join([chunk async for chunk in stream])
        same(begun + rest, first)
        stream = h.adapter.stream("a")
        begun = await anext(aiter(stream))
        await other.delete("a")
        same(begun + b"".join([chunk async for chunk in stream]), second)

    @scenario()
    async def test_readers_beside_writers_see_whole_versions(self, h: H) -> None:
        other = await h.second()
        await h.adapter.put("a", b"start" * 1000)

        async def write() -> None:
            for n in range(40):
                await other.put("a", b"%05d" % n * (500 + 10 * n))

        async def check() -> None:
            while not writer.done():
                data = await h.adapter.get("a")
                same(data, data[:5] * (len(data) // 5))
                await asyncio.sleep(0)

        writer = asyncio.create_task(write())
        await asyncio.gather(writer, *(check() for _ in range(3)))

    @scenario()
    async def test_a_cancelled_put_is_whole_or_absent(self, h: H) -> None:
        data = b"x" * (2 * MIB)
        for n in range(40):
            call = asyncio.create_task(h.adapter.put(f"b{n}", data))
            for _ in range(n):
                await asyncio.sleep(0.0002 if n % 2 else 0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        for info in (await h.adapter.list()).blobs:
            assert info.size == len(data)
            same(await h.adapter.get(info.name), data)
        assert (await h.adapter.put("b0", b"after")).size == 5

    @scenario()
    async def test_a_reader_may_leave_early(self, h: H) -> None:
        await h.adapter.put("a", b"x" * (3 * MIB))
        for _ in range(20):
            async for chunk in h.adapter.stream("a"):
                assert chunk
                break
        assert await h.adapter.delete("a") is True
