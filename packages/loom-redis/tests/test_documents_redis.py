"""What is particular to documents on Redis: keys, expiry, the list of partitions, lost replies, killed servers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.adapters.document_rules import comparable
from loom.errors import DocumentConflictError, StoreUnavailableError, TooLargeError
from loom.plugins import AdapterContext, LoomURL
from loom.ports.documents import Collection, Condition, Delete, Document, Put, Query
from loom.testing.clock import ManualClock
from loom.testing.suites.base import eventually
from loom_redis.client import Redis
from loom_redis.document_index import encode_value, expand
from loom_redis.document_keys import PartitionKeys
from loom_redis.documents import RedisDocumentStore
from loom_redis.idempotency import RedisIdempotencyStore
from loom_redis.options import RedisOptions
from loom_redis.proxy import LossyProxy
from loom_redis.scripts import Script
from loom_redis.testing import RedisServer

PLAIN = Collection("plain")
INDEXED = Collection("indexed", indexes=(("status", "at"), ("at",)))


def connect(url: str, clock: ManualClock | None = None) -> RedisDocumentStore:
    return RedisDocumentStore(Redis(RedisOptions.from_url(LoomURL.parse(url))), clock=clock)


async def everything(store: RedisDocumentStore, collection: str, **query: Any) -> list[Document]:
    found: list[Document] = []
    cursor: str | None = None
    while True:
        page = await store.query(collection, Query(cursor=cursor, **query))
        found += page.documents
        cursor = page.cursor
        if cursor is None:
            return found


async def keys_of(store: RedisDocumentStore) -> list[str]:
    """Every key of the namespace but markers, which go by themselves within a minute."""
    redis = store._redis
    keys: list[bytes] = await redis.call("KEYS", f"{redis.options.namespace}:*")
    lives = [(key.decode(), await redis.call("PTTL", key)) for key in keys]
    assert all(0 < life <= 60_000 for key, life in lives if key.endswith(":marker"))
    return sorted(key for key, _ in lives if not key.endswith(":marker"))


values = st.one_of(
    st.none(),
    st.booleans(),
    st.text(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from([2**53, 2**53 + 1, float(2**53), -(2**63), 2**63 - 1, 2**63, 0, -0.0, 0.0, "", "\x00", "\x00\xff"]),
)


@settings(max_examples=500, deadline=None)
@given(one=values, other=values)
def test_encoded_values_sort_as_the_values_do(one: Any, other: Any) -> None:
    mine, theirs, first, second = encode_value(one), encode_value(other), comparable(one), comparable(other)
    assert (mine is None, theirs is None) == (first is None, second is None)
    if mine is not None and theirs is not None and first is not None and second is not None:
        assert (mine < theirs, mine == theirs) == (first < second, first == second)
        assert mine == theirs or not theirs.startswith(mine)


def test_every_beginning_of_an_index_is_one() -> None:
    assert expand([("a", "b"), ("b",), ("a", "c")]) == [("a",), ("a", "b"), ("b",), ("a", "c")]


async def test_start_and_close_are_counted_once(redis_url: str) -> None:
    redis = Redis(RedisOptions.from_url(LoomURL.parse(redis_url)))
    store, other = RedisDocumentStore(redis), RedisDocumentStore(redis)
    await asyncio.gather(store.start(), store.start(), other.start())
    await store.close()
    await store.close()
    assert await redis.call("PING") == b"PONG"
    await other.close()
    with pytest.raises(StoreUnavailableError, match="not started"):
        await redis.call("PING")


async def test_adapters_of_one_url_share_a_connection(redis_url: str) -> None:
    context, url = AdapterContext(), LoomURL.parse(redis_url)
    assert RedisDocumentStore.from_url(url, context)._redis is RedisDocumentStore.from_url(url, context)._redis


async def test_a_script_that_was_flushed_in_the_middle_is_sent_again(redis_url: str, redis_server: RedisServer) -> None:
    async with connect(redis_url) as store:
        await store.ensure([INDEXED])
        for n in range(5):
            redis_server.command("SCRIPT", "FLUSH")
            await store.put("indexed", f"p{n}", "a", {"at": n}, ttl=60)
            redis_server.command("SCRIPT", "FLUSH")
            assert len((await store.query("indexed", Query(order_by="at"))).documents) == n + 1


async def test_every_script_keeps_to_one_slot(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect(redis_url) as store:
        run, tags = store._redis.run, set[str]()

        async def watched(script: Script, keys: Sequence[str], arguments: Sequence[Any], **options: Any) -> Any:
            [tag] = {key[key.index("{") + 1 : key.index("}")] for key in keys}
            tags.add(tag)
            return await run(script, keys, arguments, **options)

        monkeypatch.setattr(store._redis, "run", watched)
        await store.ensure([INDEXED])
        for partition in ("a", "{b}", "c}{", "d%7B", "indexed/a"):
            await store.put("indexed", partition, "x", {"status": "on", "at": 1}, create_only=True)
            assert len(await everything(store, "indexed", partition=partition)) == 1
            await store.delete("indexed", partition, "x")
        await everything(store, "indexed")
        assert len(tags) == 6


async def test_nothing_is_left_when_everything_was_deleted(redis_url: str) -> None:
    async with connect(redis_url) as store:
        await store.ensure([PLAIN, INDEXED])
        for collection in ("plain", "indexed"):
            for partition in ("p", "q"):
                await store.batch(
                    collection, partition, [Put(id=str(n), body={"status": "on", "at": n}) for n in range(50)]
                )
                await store.put(collection, partition, "timed", {"status": "on", "at": 1}, ttl=60)
        assert len(await everything(store, "indexed")) == 102
        for collection in ("plain", "indexed"):
            for document in await everything(store, collection):
                await store.delete(collection, document.partition, document.id)
        [schema] = await keys_of(store)
        assert schema.endswith("{indexed}:schema")


async def test_nothing_is_left_when_everything_has_expired(redis_url: str) -> None:
    """By the server's own expiry: nobody comes back to these partitions."""
    store = RedisIdempotencyStore(Redis(RedisOptions.from_url(LoomURL.parse(redis_url))))
    async with store, connect(redis_url) as documents:
        await documents.ensure([INDEXED])
        for n in range(20):
            await store.complete(await store.begin(str(n), ttl=1.5), b"done")
            await documents.put("indexed", str(n), "a", {"at": n}, ttl=1.5)

        async def left() -> list[str]:
            lists = (":names", ":dues", ":tokens", ":schema")
            return [key for key in await keys_of(documents) if not key.endswith(lists)]

        assert await left()

        async def gone() -> bool:
            return not await left()

        await eventually(gone, "every key of a partition has expired")
        # The lists of partitions know when they will be empty: a query sees it earlier, but need not come.
        for _ in range(2):  # each cleans up after some of the partitions that it found empty
            assert await everything(documents, "indexed") == []
        assert [key for key in await keys_of(documents) if "{indexed}" in key and not key.endswith(":schema")] == []


async def test_the_list_of_partitions_is_swept_by_those_who_come(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as store:
        await store.ensure([PLAIN])
        for n in range(100):
            await store.put("plain", str(n), "a", {}, ttl=100)
        clock.advance(1000)
        for n in range(100, 106):
            await store.put("plain", str(n), "a", {}, ttl=100)
        names = [name async for some in store._partitions.names("plain") for name in some]
        assert names == [str(n) for n in range(100, 106)]


async def test_what_has_expired_among_what_stays_is_purged_in_pieces(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as store:
        await store.ensure([INDEXED])
        kept = await store.put("indexed", "p", "kept", {"status": "on", "at": 3})
        for start in range(0, 400, 100):
            await store.batch(
                "indexed",
                "p",
                [Put(id=f"{n:03}", body={"status": "on", "at": n}, ttl=5) for n in range(start, start + 100)],
            )
        order = PartitionKeys.of(store._redis, "indexed", "p").order
        assert await store._redis.call("ZCARD", order) == 401 * 4
        clock.advance(5)
        for left in (3, 2, 1):
            assert await everything(store, "indexed", partition="p", order_by="at") == [kept]
            assert await store._redis.call("ZCARD", order) == (left * 100 + 1) * 4
        await store.put("indexed", "p", "new", {"status": "on", "at": 4}, create_only=True)
        assert await store._redis.call("ZCARD", order) == 2 * 4


async def test_a_partition_that_expires_is_kept_for_a_document_that_does_not(redis_url: str) -> None:
    async with connect(redis_url) as store:
        await store.ensure([INDEXED])
        keys = PartitionKeys.of(store._redis, "indexed", "p")

        async def lives() -> set[int]:
            found = [await store._redis.call("PTTL", key) for key in keys.all[:4]]
            return {-1 if life == -1 else 1 for life in found if life != -2}

        await store.put("indexed", "p", "timed", {"other": 1}, ttl=1000)
        assert await lives() == {1}
        await store.put("indexed", "p", "also", {"at": 1}, ttl=500)
        assert await lives() == {1}
        stays = await store.put("indexed", "p", "stays", {"at": 1})
        assert await lives() == {-1}
        for id in ("timed", "also"):
            await store.put("indexed", "p", id, {"at": 1}, ttl=0.05)
        await asyncio.sleep(0.1)
        assert await everything(store, "indexed", partition="p") == [stays]
        longer = await store.put("indexed", "p", "stays", {"at": 2}, ttl=1000)
        assert await lives() == {1}
        assert await store.get("indexed", "p", "stays") == longer
        for ttl in (1e-9, 1e12, float("inf")):
            put = await store.put("indexed", "p", "stays", {"at": 2}, ttl=ttl)
            assert await store.get("indexed", "p", "stays") == (None if ttl == 1e-9 else put)


async def test_thousands_of_documents_in_one_partition(redis_url: str) -> None:
    async with connect(redis_url) as store:
        await store.ensure([INDEXED])
        count = 6000
        for start in range(0, count, 100):
            puts = [Put(id=f"{n:05}", body={"status": "on", "at": n * 7919 % count}) for n in range(start, start + 100)]
            await store.batch("indexed", "p", puts)
        for descending in (False, True):
            by_id = await everything(store, "indexed", partition="p", limit=500, descending=descending)
            assert [d.id for d in by_id] == sorted((f"{n:05}" for n in range(count)), reverse=descending)
            by_at = await everything(store, "indexed", order_by="at", limit=700, descending=descending)
            assert [d.body["at"] for d in by_at] == sorted(range(count), reverse=descending)
        where = (Condition("status", "==", "on"), Condition("at", ">=", 1000))
        unordered = await everything(store, "indexed", where=where, limit=1500)
        assert [d.id for d in unordered] == [f"{n:05}" for n in range(count) if n * 7919 % count >= 1000]
        # A page of ten in the middle of it costs the server no more than a page of ten.
        await store._redis.call("CONFIG", "RESETSTAT")
        for n in range(50):
            where = (Condition("status", "==", "on"), Condition("at", ">=", n * 100))
            page = await store.query("indexed", Query(partition="p", where=where, order_by="at", limit=10))
            assert [d.body["at"] for d in page.documents] == list(range(n * 100, n * 100 + 10))
        stats = (await store._redis.call("INFO", "commandstats")).decode()
        [hmget] = [line for line in stats.splitlines() if line.startswith("cmdstat_hmget:")]
        assert int(hmget.split("calls=")[1].split(",")[0]) == 50


async def test_large_documents_are_read_in_several_trips(redis_url: str) -> None:
    async with connect(redis_url) as store:
        await store.ensure([PLAIN])
        for n in range(30):
            await store.put("plain", "p", f"{n:02}", {"text": "x" * 500_000})
        assert [d.id for d in await everything(store, "plain", partition="p")] == [f"{n:02}" for n in range(30)]
        with pytest.raises(TooLargeError):
            await store.batch("plain", "p", [Put(id=str(n), body={"text": "x" * 15_000_000}) for n in range(5)])


@pytest.mark.parametrize("seed", range(3))
async def test_no_document_hides_while_partitions_come_and_go(redis_url: str, seed: int) -> None:
    """Partitions are emptied, taken off the list and filled anew by several clients, while others query and index."""
    rng, stop = random.Random(seed), time.monotonic() + 1.5
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(connect(redis_url)) for _ in range(4)]
        for store in stores:
            await store.ensure([Collection("c")])

        async def churn(store: RedisDocumentStore, name: str) -> None:
            for n in itertools.count():
                if time.monotonic() > stop:
                    break
                partition = f"p{rng.randrange(6)}"
                ttl = rng.choice([None, None, 0.05, 30.0])
                with contextlib.suppress(DocumentConflictError):
                    await store.put("c", partition, name, {"n": n}, create_only=rng.random() < 0.5, ttl=ttl)
                if rng.random() < 0.8:
                    await store.delete("c", partition, name)
                await asyncio.sleep(0)

        async def watch(store: RedisDocumentStore) -> None:
            while time.monotonic() < stop:
                await everything(store, "c", limit=3)
                await asyncio.sleep(0.001)

        async def grow(store: RedisDocumentStore) -> None:
            for fields in (("n",), ("m", "n"), ("n", "m")):
                await asyncio.sleep(0.3)
                await store.ensure([Collection("c", indexes=(fields,))])

        writers = [churn(stores[n % 3], f"w{n}") for n in range(9)]
        await asyncio.gather(*writers, watch(stores[3]), watch(stores[0]), grow(stores[3]))
        await asyncio.sleep(0.1)
        there = [
            document
            for partition in (f"p{n}" for n in range(6))
            for document in [await stores[1].get("c", partition, f"w{n}") for n in range(9)]
            if document is not None
        ]
        there.sort(key=lambda document: (document.partition, document.id))
        assert await everything(stores[2], "c") == there
        by_n = sorted(there, key=lambda document: (document.body["n"], document.partition, document.id))
        assert await everything(stores[3], "c", order_by="n", limit=2) == by_n


async def test_an_index_is_added_while_others_write(redis_url: str) -> None:
    async with connect(redis_url) as old, connect(redis_url) as new:
        await old.ensure([Collection("c")])
        for n in range(300):
            await old.put("c", f"p{n % 7}", f"before{n}", {"at": n})
        done = False

        async def write(writer: int) -> int:
            for n in itertools.count():
                if done:
                    return n
                await old.put("c", f"p{(n + writer) % 11}", f"w{writer}-{n % 50}", {"at": 1000 + n})
            return 0

        writers = [asyncio.ensure_future(write(n)) for n in range(5)]
        await new.ensure([Collection("c", indexes=(("at",),))])
        await asyncio.sleep(0.05)
        done = True
        assert sum(await asyncio.gather(*writers)) > 20
        by_id, by_at = await everything(new, "c"), await everything(new, "c", order_by="at")
        assert sorted(by_at, key=lambda d: (d.partition, d.id)) == by_id
        assert [d.body["at"] for d in by_at] == sorted(d.body["at"] for d in by_id)


async def test_indexes_outlive_a_server_that_lost_everything(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with connect(server.url) as store:
            await store.ensure([INDEXED])
            await store.put("indexed", "p", "a", {"at": 1})
            server.command("FLUSHALL")
            assert (await store.query("indexed", Query(order_by="at"))).documents == []
            again = await store.put("indexed", "p", "a", {"at": 1})
            assert (await store.query("indexed", Query(order_by="at"))).documents == [again]


async def test_a_lost_reply(redis_server: RedisServer, fresh_url: Callable[[], str]) -> None:
    namespace = fresh_url().partition("?")[2]
    async with LossyProxy(redis_server.port) as proxy, connect(f"{proxy.url}?{namespace}") as store:
        await store.ensure([PLAIN])
        first = await store.put("plain", "p", "a", {"n": 1})
        proxy.lose_reply_to(b"EVALSHA")
        second = await store.put("plain", "p", "a", {"n": 2}, if_match=first.etag)
        assert await store.get("plain", "p", "a") == second, "it was found to have been applied"
        proxy.lose_reply_to(b"EVALSHA")
        created, gone = await store.batch(
            "plain", "p", [Put(id="b", body={}, create_only=True, ttl=100), Delete(id="a", if_match=second.etag)]
        )
        assert (created, gone) == (await store.get("plain", "p", "b"), None)
        proxy.lose_reply_to(b"EVALSHA")
        with pytest.raises(StoreUnavailableError) as caught:
            await store.delete("plain", "p", "b")
        assert caught.value.unknown, "nothing shows that a delete was applied"
        for word in (b"HGET", b"EVALSHA"):
            proxy.lose_reply_to(word)
            assert await (store.get("plain", "p", "b") if word == b"HGET" else everything(store, "plain")) in (None, [])
        assert proxy.lost == 5


async def test_a_request_that_may_have_been_lost(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect(redis_url) as store:
        await store.ensure([PLAIN])
        first = await store.put("plain", "p", "a", {"n": 1})
        run, losing = store._redis.run, True

        async def lossy(script: Script, *arguments: Any, **options: Any) -> Any:
            nonlocal losing
            if losing and script.name == "documents_write":
                losing = False
                raise StoreUnavailableError("cut", unknown=True)
            return await run(script, *arguments, **options)

        monkeypatch.setattr(store._redis, "run", lossy)
        for operation in (
            Put(id="a", body={}, if_match=first.etag),
            Put(id="b", body={}, create_only=True),
            Delete(id="a"),
        ):
            losing = True
            with pytest.raises(StoreUnavailableError) as caught:
                await store.batch("plain", "p", [operation])
            assert caught.value.unknown
        assert await store.get("plain", "p", "a") == first
        losing = True
        again = await store.put("plain", "p", "a", {"n": 2})
        assert not losing
        assert await store.get("plain", "p", "a") == again, "a put without a condition was sent again"


async def test_what_has_expired_and_is_still_stored_meets_no_condition(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as store:
        await store.ensure([PLAIN])
        await store.put("plain", "p", "stays", {})
        for operation in (Put(id="a", body={}, if_match="?"), Delete(id="a", if_match="?")):
            old = await store.put("plain", "p", "a", {}, ttl=5)
            clock.advance(5)
            with pytest.raises(DocumentConflictError):
                await store.batch("plain", "p", [msgspec.structs.replace(operation, if_match=old.etag)])
            assert await store._redis.call("HEXISTS", PartitionKeys.of(store._redis, "plain", "p").documents, "a") == 1
            assert await store.put("plain", "p", "a", {}, create_only=True)


@pytest.mark.crash
async def test_a_killed_server_has_everything_that_was_acknowledged(tmp_path: Path) -> None:
    with RedisServer(tmp_path, appendfsync="always") as server:
        known: dict[tuple[str, str], Document | None] = {}
        stop = False

        async def write(store: RedisDocumentStore, writer: int) -> None:
            for n in itertools.count():
                if stop:
                    return
                partition, id = f"p{n % 13}", f"w{writer}-{n % 40}"
                found = known.get((partition, id))
                try:
                    if n % 5 == 4:
                        await store.delete("indexed", partition, id)
                        known[partition, id] = None
                    else:
                        body = {"status": "on", "at": n}
                        known[partition, id] = await store.put(
                            "indexed", partition, id, body, if_match=found and found.etag, create_only=found is None
                        )
                except StoreUnavailableError:
                    known[partition, id] = await store.get("indexed", partition, id)

        async with connect(server.url) as store:
            await store.ensure([INDEXED])
            writers = [asyncio.ensure_future(write(store, n)) for n in range(20)]
            for _ in range(3):
                await asyncio.sleep(0.3)
                server.kill()
                await asyncio.to_thread(server.start)
            stop = True
            await asyncio.gather(*writers)
        async with connect(server.url) as store:
            await store.ensure([INDEXED])
            expected = [document for _, document in sorted(known.items()) if document is not None]
            assert len(expected) > 100
            assert await everything(store, "indexed") == expected
            by_at = sorted(expected, key=lambda d: (d.body["at"], d.partition, d.id))
            assert await everything(store, "indexed", where=(Condition("status", "==", "on"),), order_by="at") == by_at


async def test_a_full_memory_refuses_and_nothing_is_half_written(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with connect(server.url) as store:
            await store.ensure([INDEXED])
            for n in range(200):
                await store.put("indexed", f"p{n % 2}", str(n), {"at": n})
            before = await everything(store, "indexed")
            server.command("CONFIG", "SET", "maxmemory", "1mb")
            for writing in (
                [Put(id="new", body={"at": 1})],
                [Delete(id="0"), Put(id="new", body={"at": 1})],
                [Put(id="2", body={"at": "changed"}), Delete(id="0")],
                [Put(id="2", body={}, ttl=10), Put(id="new", body={}, create_only=True)],
            ):
                for partition in ("p0", "another"):
                    with pytest.raises(StoreUnavailableError, match="memory is full") as caught:
                        await store.batch("indexed", partition, writing)
                    assert not caught.value.unknown
            assert await everything(store, "indexed") == before
            assert len(await everything(store, "indexed", order_by="at")) == 200
            for n in range(0, 200, 2):
                await store.delete("indexed", "p0", str(n))
            assert len(await everything(store, "indexed")) == 100, "room can be made"
            server.command("CONFIG", "SET", "maxmemory", "0")
            await store.put("indexed", "p0", "new", {"at": 1})
            assert len(await everything(store, "indexed", order_by="at")) == 101
