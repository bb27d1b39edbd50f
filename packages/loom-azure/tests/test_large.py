"""Large blobs pass through a small process, both ways."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection

import pytest

from loom.plugins import AdapterContext, LoomURL
from loom_azure.blobs import AzureBlobStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the most memory that a process had is asked of POSIX"),
]

MIB = 2**20
SIZE = 1024 * MIB


def _most_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


async def _chunks() -> AsyncIterator[bytes]:
    """No two chunks alike."""
    filler = bytes(range(256)) * 2048
    for number in range(SIZE // len(filler)):
        yield number.to_bytes(8, "big") + filler[8:]


async def _pass(url: str) -> dict[str, float]:
    async with AzureBlobStore.from_url(LoomURL.parse(url), AdapterContext()) as store:
        await store.put("warm", b"x" * 3 * MIB)
        assert len(await store.get("warm")) == 3 * MIB
        before, began, sent = _most_memory(), time.monotonic(), hashlib.blake2b()

        async def hashed() -> AsyncIterator[bytes]:
            async for chunk in _chunks():
                sent.update(chunk)
                yield chunk

        info = await store.put("large", hashed())
        middle, found = time.monotonic(), hashlib.blake2b()
        async for chunk in store.stream("large"):
            found.update(chunk)
        assert (info.size, found.digest()) == (SIZE, sent.digest())
        return {"up": middle - began, "down": time.monotonic() - middle, "memory": _most_memory() - before}


def _child(url: str, answer: Connection) -> None:
    answer.send(asyncio.run(_pass(url)))


def test_a_gibibyte_takes_less_than_64_mebibytes(fresh_account_url: Callable[[], str]) -> None:
    """In a process of its own: the most memory that one had never becomes less."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(fresh_account_url(), there))
    child.start()
    there.close()
    measured = here.recv()
    child.join()
    print(f"1 GiB: up {measured['up']:.1f} s, down {measured['down']:.1f} s, {measured['memory'] / MIB:.1f} MiB more")
    assert measured["memory"] < 64 * MIB
