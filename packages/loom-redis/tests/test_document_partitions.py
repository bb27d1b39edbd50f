"""The list of a collection's partitions: schedules in which a document would hide from queries over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loom.plugins import LoomURL
from loom.ports.documents import Collection, Document, Query
from loom.testing.clock import ManualClock
from loom_redis.client import Redis
from loom_redis.document_keys import PartitionKeys
from loom_redis.documents import RedisDocumentStore
from loom_redis.options import RedisOptions

PLAIN = Collection("c")
GROWN = Collection("c", indexes=(("n",),))


def connect(url: str, clock: ManualClock | None = None) -> RedisDocumentStore:
    return RedisDocumentStore(Redis(RedisOptions.from_url(LoomURL.parse(url))), clock=clock)


async def everything(store: RedisDocumentStore, order_by: str | None = None) -> list[Document]:
    return (await store.query("c", Query(order_by=order_by, limit=1000))).documents


@asynccontextmanager
async def held(
    monkeypatch: pytest.MonkeyPatch, target: Any, method: str, call: Coroutine[Any, Any, Any], *, before: bool = False
) -> AsyncIterator[asyncio.Task[Any]]:
    """Run ``call`` until ``target.method`` has returned, or is about to begin, and let it go on at the end."""
    original: Callable[..., Awaitable[Any]] = getattr(target, method)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def gated(*arguments: Any, **options: Any) -> Any:
        first = not reached.is_set()
        result = None if before and first else await original(*arguments, **options)
        reached.set()
        if first:
            await go_on.wait()
        return await original(*arguments, **options) if before and first else result

    monkeypatch.setattr(target, method, gated)
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(30):
        await reached.wait()
    try:
        yield task
    finally:
        go_on.set()
    await task


async def test_a_partition_that_was_emptied_since_is_registered_anew(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_url) as one, connect(redis_url) as other:
        for store in (one, other):
            await store.ensure([PLAIN])
        put = one.put("c", "p", "a", {"n": 1}, create_only=True)
        async with held(monkeypatch, one._partitions, "register", put) as writing:
            await other.put("c", "p", "b", {"n": 2})
            await other.delete("c", "p", "b")
        assert await everything(other) == [writing.result()]


async def test_a_partition_that_was_found_empty_since_is_registered_anew(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_url) as one, connect(redis_url) as other:
        for store in (one, other):
            await store.ensure([PLAIN])
        put = one.put("c", "p", "a", {"n": 1}, create_only=True)
        async with held(monkeypatch, one._partitions, "register", put) as writing:
            assert await everything(other) == []
            assert [names async for names in other._partitions.names("c")] == []
        assert await everything(other) == [writing.result()]


async def test_who_takes_a_partition_off_the_list_spares_one_that_came_back(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_url) as one, connect(redis_url) as other:
        for store in (one, other):
            await store.ensure([PLAIN])
        await one._partitions.register("c", "p", None, b"")
        async with held(monkeypatch, one._partitions, "forget", everything(one), before=True):
            put = await other.put("c", "p", "a", {"n": 1})
        assert await everything(other) == [put]
        async with held(monkeypatch, one._partitions, "forget", one.delete("c", "p", "a"), before=True):
            put = await other.put("c", "p", "a", {"n": 2})
        assert await everything(other) == [put]


async def test_a_registration_for_longer_is_void_when_the_partition_is_not_the_one_that_was_meant(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as one, connect(redis_url, clock) as other:
        for store in (one, other):
            await store.ensure([PLAIN])
        await other.put("c", "p", "short", {"n": 1}, ttl=10)
        async with held(monkeypatch, one._partitions, "register", one.put("c", "p", "long", {"n": 2}, ttl=1000)) as put:
            await other.delete("c", "p", "short")
            await other._partitions.drop_empty("c", ["p"])
            await other.put("c", "p", "short", {"n": 3}, ttl=10)
        clock.advance(500)
        await other.put("c", "another", "a", {"n": 4}, ttl=10)  # whoever registers sweeps the list
        assert [document.id for document in await everything(other)] == ["a", "long"]
        assert put.result() in await everything(one)


async def test_a_partition_is_listed_for_as_long_as_its_last_document_lives(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as store:
        await store.ensure([PLAIN])
        await store.put("c", "p", "short", {}, ttl=1)
        long = await store.put("c", "p", "long", {}, ttl=1000)
        await store.put("c", "q", "short", {}, ttl=1)
        kept = await store.put("c", "q", "kept", {})
        clock.advance(500)
        await store.put("c", "r", "new", {}, ttl=1)
        assert [d for d in await everything(store) if d.partition != "r"] == [long, kept]
        clock.advance(100_000)
        await store.put("c", "s", "new", {}, ttl=1)
        names = [name async for some in store._partitions.names("c") for name in some]
        assert names == ["q", "s"]


async def test_who_creates_without_knowing_the_partition_does_not_shorten_its_time_on_the_list(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as one, connect(redis_url, clock) as other:
        for store in (one, other):
            await store.ensure([PLAIN])
        kept = await one.put("c", "p", "kept", {})
        long = await one.put("c", "q", "long", {}, ttl=1000)
        for partition in "pq":
            await other.put("c", partition, "short", {}, ttl=1, create_only=True)
        clock.advance(500)
        await other.put("c", "r", "new", {}, ttl=1)
        assert [d for d in await everything(one) if d.partition != "r"] == [kept, long]


async def test_who_was_about_to_open_a_partition_hears_of_an_index_added_since(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_url) as old, connect(redis_url) as new:
        await old.ensure([PLAIN])
        put = old.put("c", "p", "a", {"n": 1}, create_only=True)
        async with held(monkeypatch, old._partitions, "register", put) as writing:
            await new.ensure([GROWN])
        assert await everything(new, order_by="n") == [writing.result()]


async def test_what_fills_an_index_leaves_alone_what_knows_more(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_url) as store:
        await store.ensure([Collection("c", indexes=(("n",), ("m",)))])
        await store.put("c", "p", "a", {"n": 1, "m": 1})
        await store._partitions._fill_partition("c", "p", (("n",),))
        put = await store.put("c", "p", "a", {"n": 2, "m": 2})
        assert await everything(store, order_by="m") == [put]
        order = PartitionKeys.of(store._redis, "c", "p").order
        assert await store._redis.call("ZCARD", order) == 3


async def test_what_was_written_while_an_index_is_filled_is_not_put_back(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_url) as old, connect(redis_url) as new:
        await old.ensure([PLAIN])
        for id in "abc":
            await old.put("c", "p", id, {"n": 1})
        run = new._redis.run

        async def late(script: Any, keys: Any, arguments: Any, **options: Any) -> Any:
            if script.name == "documents_reindex":
                await old.put("c", "p", "a", {"n": 9})
                await old.delete("c", "p", "b")
                await old.put("c", "p", "c", {"other": 1})
            return await run(script, keys, arguments, **options)

        monkeypatch.setattr(new._redis, "run", late)
        await new.ensure([GROWN])
        assert [d.body["n"] for d in await everything(new, order_by="n")] == [9]
        order = PartitionKeys.of(new._redis, "c", "p").order
        assert await new._redis.call("ZCARD", order) == 3
