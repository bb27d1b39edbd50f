"""The journal on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.errors import CorruptEntryError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import Append, Appended, Head, JournalStore, Snapshot
from loom.testing.machines.journal import journal_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.journal import JournalStoreSuite
from loom_redis.journal import RedisJournalStore
from loom_redis.plugin import loom_register_adapters
from loom_redis.proxy import LossyProxy
from loom_redis.testing import RedisServer

MODEL = settings(max_examples=30, stateful_step_count=30, deadline=None)


def connect(url: str) -> RedisJournalStore:
    return RedisJournalStore.from_url(LoomURL.parse(url), AdapterContext())


class TestRedisJournalStore(JournalStoreSuite):
    spec = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("journal", "redis"))

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[JournalStore]:
        return Harness(lambda: connect(self.url), url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(journal_machine(lambda: connect(fresh_url())), settings=MODEL)


async def fill(store: JournalStore, stream: str, count: int, data: bytes = b"data") -> None:
    head = await store.head(stream)
    for n in range(count):
        append = Append(stream, head.seq, head.entry_id, f"{stream}-{n}", data)
        await store.append(append)
        head = Head(head.seq + 1, append.entry_id)


async def test_a_script_that_was_flushed_in_the_middle_is_sent_again(redis_url: str, redis_server: RedisServer) -> None:
    async with connect(redis_url) as store:
        for n in range(1, 6):
            redis_server.command("SCRIPT", "FLUSH")
            await fill(store, "s", 1)
            assert (await store.heads(["s", "t"]))[0].seq == n
            assert len(await store.read("s")) == n


@pytest.mark.parametrize("damage", ["shorter", "one bit", "another's", "gone"])
async def test_a_damaged_entry_is_named(redis_url: str, damage: str) -> None:
    async with connect(redis_url) as store:
        await fill(store, "s", 3)
        await store.write_snapshot("s", Snapshot(1, b"snap"))
        redis, key = store._redis, store._key("s")

        async def spoil(field: str) -> None:
            record = bytearray(await redis.call("HGET", key, field))
            if damage == "gone":
                await redis.call("HDEL", key, field)
                return
            record[-1] ^= 1
            spoilt = {"shorter": record[:10], "one bit": record, "another's": await redis.call("HGET", key, "1")}
            await redis.call("HSET", key, field, bytes(spoilt[damage]))

        await spoil("2")
        with pytest.raises(CorruptEntryError) as caught:
            await store.read("s")
        assert caught.value.context == {"stream": "s", "seq": 2}
        assert [entry.seq for entry in await store.read("s", 2)] == [3]
        await spoil("s")
        with pytest.raises(CorruptEntryError):
            await store.read_snapshot("s")


async def test_large_entries_are_read_in_several_trips(redis_url: str) -> None:
    async with connect(redis_url) as store:
        await fill(store, "s", 100, b"x" * 200_000)
        assert [entry.seq for entry in await store.read("s")] == list(range(1, 101))
        assert [entry.seq for entry in await store.read("s", 10, 70)] == list(range(11, 81))


async def test_thousands_of_entries_are_appended_in_one_call_and_trimmed(redis_url: str) -> None:
    async with connect(redis_url) as store:
        ids = ["", *(f"e{n}" for n in range(1, 3001))]
        appends = [Append("s", n, ids[n], ids[n + 1], b"x") for n in range(3000)]
        assert await store.append_many(appends) == [Appended(n) for n in range(1, 3001)]
        assert await store.append_many(appends[::-1]) == [Appended(n, duplicate=True) for n in range(3000, 0, -1)]
        await store.write_snapshot("s", Snapshot(2999, b"all"))
        assert await store.trim("s", 3000) == 2999
        assert [entry.seq for entry in await store.read("s", 2999)] == [3000]


async def test_a_key_of_somebody_else_fails_only_its_own_stream(redis_url: str) -> None:
    async with connect(redis_url) as store:
        await store._redis.call("SET", store._key("foreign"), "text")
        outcomes = await store.append_many([Append(name, 0, "", "e", b"") for name in ("a", "foreign", "b")])
        assert (outcomes[0], outcomes[2]) == (Appended(1), Appended(1))
        assert isinstance(outcomes[1], StoreUnavailableError)
        assert "namespace" in str(outcomes[1])


@pytest.mark.crash
async def test_a_killed_server_has_everything_that_was_acknowledged(tmp_path: Path) -> None:
    with RedisServer(tmp_path, appendfsync="always") as server:
        acknowledged: dict[str, list[str]] = {f"s{n}": [] for n in range(40)}
        async with connect(server.url) as store:
            stop = False

            async def write(stream: str) -> None:
                ids = acknowledged[stream]
                while not stop:
                    entry_id = f"{stream}-{len(ids) + 1}"
                    append = Append(stream, len(ids), ids[-1] if ids else "", entry_id, b"x" * 300)
                    # It comes back by itself: every append is in the end either new, or known as one's own.
                    assert (await store.append(append)).seq == len(ids) + 1
                    ids.append(entry_id)

            writers = [asyncio.ensure_future(write(stream)) for stream in acknowledged]
            for _ in range(3):
                before = sum(map(len, acknowledged.values()))
                while sum(map(len, acknowledged.values())) < before + 2000:
                    await asyncio.sleep(0.001)
                server.kill()
                await asyncio.to_thread(server.start)
            stop = True
            await asyncio.gather(*writers)
        async with connect(server.url) as store:
            assert await store.streams() == sorted(acknowledged)
            for stream, ids in acknowledged.items():
                assert await store.head(stream) == Head(len(ids), ids[-1])
                assert [entry.entry_id for entry in await store.read(stream, 0, 10**6)] == ids


async def test_a_reply_that_is_lost_is_found_to_be_a_duplicate(redis_server: RedisServer) -> None:
    async with LossyProxy(redis_server.port) as proxy, connect(f"{proxy.url}?namespace=lossy") as store:
        await fill(store, "s", 1)
        head = await store.head("s")
        proxy.lose_reply_to(b"EVALSHA")
        outcomes = await store.append_many(
            [Append("s", 1, head.entry_id, "a", b"1"), Append("s", 2, "a", "b", b"2"), Append("t", 5, "x", "y", b"")]
        )
        assert proxy.lost == 1
        assert outcomes[:2] == [Appended(2, duplicate=True), Appended(3, duplicate=True)]
        assert getattr(outcomes[2], "head", None) == Head()
        assert [entry.data for entry in await store.read("s", 1)] == [b"1", b"2"]
        proxy.lose_reply_to(b"EVALSHA")
        assert await store.write_snapshot("s", Snapshot(3, b"all")), "it was ours that had been taken"
        proxy.lose_reply_to(b"EVALSHA")
        await store.trim("s", 3)
        assert proxy.lost == 3
        assert await store.append(Append("s", 3, "b", "c", b"")) == Appended(4)


async def test_a_full_memory_refuses_and_nothing_is_half_written(tmp_path: Path) -> None:
    with RedisServer(tmp_path, settings=(("maxmemory", "8mb"),)) as server:
        async with connect(server.url) as store:
            await fill(store, "s", 3)
            await store.write_snapshot("s", Snapshot(2, b"snap"))
            written = 0

            async def fill_up() -> None:
                nonlocal written
                for n in range(1000):
                    batch = [Append(f"t{n}-{m}", 0, "", "e", b"x" * 3000) for m in range(50)]
                    assert await store.append_many(batch) == [Appended(1)] * 50
                    written += 50

            with pytest.raises(StoreUnavailableError, match="memory is full") as caught:
                await fill_up()
            assert not caught.value.unknown
            names = await store.streams("t", limit=10**6)
            heads = await store.heads(names)
            assert len(names) == written
            assert all(head.seq == 1 for head in heads)
            for name in names:
                assert len(await store.read(name)) == 1
            assert await store.trim("s", 2) == 2, "room can be made"
            assert [entry.seq for entry in await store.read("s", 2)] == [3]


async def test_two_adapters_of_one_url_share_a_connection(redis_url: str) -> None:
    context, url = AdapterContext(), LoomURL.parse(redis_url)
    first, second = (RedisJournalStore.from_url(url, context) for _ in range(2))
    await first.start()
    await first.start()
    await second.start()
    await first.close()
    await first.close()
    await fill(second, "s", 1)
    await second.close()
    with pytest.raises(StoreUnavailableError):
        await second.head("s")
