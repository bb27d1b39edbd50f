"""A group under sentinels: the master dies under load, and calls go on at the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from loom.errors import StoreUnavailableError
from loom.plugins import LoomURL
from loom_redis.client import Redis
from loom_redis.options import RedisOptions
from loom_redis.scripts import Script
from loom_redis.testing import SentinelGroup

pytestmark = pytest.mark.slow

_SET = Script("set", "redis.call('SET', KEYS[1], ARGV[1]) return 1", writes=True)


def _redis(url: str) -> Redis:
    return Redis(RedisOptions.from_url(LoomURL.parse(url)))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[SentinelGroup]:
    with SentinelGroup(tmp_path) as found:
        yield found


async def test_what_a_replica_has_confirmed_survives_the_master(group: SentinelGroup) -> None:
    redis = _redis(f"{group.url}?wait_replicas=1&retry_for=40")
    await redis.start()
    acknowledged: list[str] = []

    async def write(worker: int) -> None:
        for n in range(10_000):
            key = f"{{{worker}}}:{n}"
            await redis.run(_SET, [key], [n], repeatable=True)
            acknowledged.append(key)
            if done.is_set():
                return

    done = asyncio.Event()
    workers = [asyncio.ensure_future(write(worker)) for worker in range(8)]
    async with redis.listening(["news"]) as bell:
        await asyncio.sleep(0.5)
        before = len(acknowledged)
        assert before > 0
        group.master.kill()
        assert await bell.wait(40), "the subscription moved to the new master"
        while len(acknowledged) < before + 100:
            await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*workers)
        assert await redis.call("PUBLISH", "news", "") >= 1
    values = await asyncio.gather(*(redis.call("GET", key, key=key, repeatable=True) for key in acknowledged))
    assert None not in values, "an acknowledged write is gone"
    await redis.close()


async def test_a_master_that_hangs_is_left_when_the_sentinels_say_so(group: SentinelGroup) -> None:
    redis = _redis(f"{group.url}?timeout=60&retry_for=60")
    await redis.start()
    group.master.pause()
    async with asyncio.timeout(40):
        await redis.call("SET", "a", 1, repeatable=True)
    await redis.close()


async def test_a_group_that_the_sentinels_do_not_know(group: SentinelGroup) -> None:
    redis = _redis(group.url.replace("mymaster", "other") + "?retry_for=0.2")
    with pytest.raises(StoreUnavailableError, match="do not know a group 'other'"):
        await redis.start()
