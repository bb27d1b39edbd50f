"""A cluster: keys on their masters, scripts, subscriptions, a slot that moves under load, a master that dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from loom.plugins import LoomURL
from loom_redis.client import Redis
from loom_redis.options import RedisOptions
from loom_redis.scripts import Script
from loom_redis.testing import RedisCluster, RedisServer

pytestmark = pytest.mark.slow

_COUNT = Script("count", "return redis.call('INCR', KEYS[1])", writes=True)


def _redis(url: str) -> Redis:
    return Redis(RedisOptions.from_url(LoomURL.parse(url)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


async def test_keys_go_to_their_masters(cluster: RedisCluster) -> None:
    redis = _redis(cluster.url)
    await redis.start()
    keys = [redis.key("t", str(n), "x") for n in range(300)]
    await asyncio.gather(*(redis.call("SET", key, n, key=key) for n, key in enumerate(keys)))
    found = await asyncio.gather(*(redis.call("GET", key, key=key) for key in keys))
    assert found == [str(n).encode() for n in range(300)]
    assert sum(await redis.call_all("DBSIZE")) >= 300
    assert len(await redis.call_all("PING")) == 3
    await redis.close()


async def test_published_anywhere_rings_everywhere(cluster: RedisCluster) -> None:
    redis = _redis(cluster.url)
    await redis.start()
    async with redis.listening(["news"]) as bell:
        for server in cluster.servers:
            server.command("PUBLISH", "news", "x")
            assert await bell.wait(30)
    await redis.close()


async def test_a_slot_moves_under_load_and_no_call_fails(cluster: RedisCluster) -> None:
    redis = _redis(cluster.url)
    await redis.start()
    key = "{moving}:n"
    slot = str(key_slot(key.encode()))
    await redis.run(_COUNT, [key], [])
    done, counted = asyncio.Event(), 1

    async def count() -> None:
        nonlocal counted
        while not done.is_set():
            await redis.run(_COUNT, [key], [])  # not repeatable: twice would be counted
            counted += 1

    workers = [asyncio.ensure_future(count()) for _ in range(10)]
    for _ in range(3):
        await asyncio.to_thread(_move, cluster, slot, key)
    done.set()
    await asyncio.gather(*workers)
    assert int(await redis.call("GET", key, key=key)) == counted
    await redis.close()


async def test_a_dead_masters_replica_takes_over(tmp_path: Path) -> None:
    with RedisCluster(tmp_path, replicas=1) as cluster:
        redis = _redis(f"{cluster.url}?retry_for=60")
        await redis.start()
        keys = [f"k{n}" for n in range(50)]
        await asyncio.gather(*(redis.call("SET", key, 1, key=key, repeatable=True) for key in keys))
        async with redis.listening(["news"]) as bell:
            cluster.servers[0].kill()
            await asyncio.gather(*(redis.call("SET", key, 2, key=key, repeatable=True) for key in keys))
            assert await redis.call("PUBLISH", "news", "", repeatable=True) >= 0
            assert await bell.wait(60)
        assert len(await redis.call_all("PING")) == 3
        await redis.close()


def _move(cluster: RedisCluster, slot: str, key: str) -> None:
    """Move a slot as ``redis-cli --cluster reshard`` does, to the next master."""
    ids = {server.port: server.cli("CLUSTER", "MYID") for server in cluster.servers}
    source: RedisServer = next(server for server in cluster.servers if slot_of(server, slot))
    target = next(server for server in cluster.servers if server is not source)
    target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    source.cli("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", key)
    for server in (target, source, *cluster.servers):
        server.cli("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])


def slot_of(server: RedisServer, slot: str) -> bool:
    """Whether the slot is this server's."""
    return "MOVED" not in server.cli("GET", "{moving}:n") and bool(slot)
