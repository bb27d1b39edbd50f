"""The client: commands of one moment together, retries, cancellation, wakeups; all over a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loom.errors import StoreUnavailableError
from loom.plugins import LoomURL
from loom_redis.client import Redis
from loom_redis.options import RedisOptions
from loom_redis.scripts import Script
from loom_redis.testing import RedisServer


def _redis(url: str) -> Redis:
    return Redis(RedisOptions.from_url(LoomURL.parse(url)))


async def test_replies_come_back_to_their_own_commands(redis_url: str) -> None:
    redis = _redis(redis_url)
    await redis.start()
    replies = await asyncio.gather(*(redis.call("ECHO", f"{n}") for n in range(1000)))
    assert replies == [str(n).encode() for n in range(1000)]
    await redis.close()


async def test_cancelled_calls_leave_the_connection_usable(redis_url: str) -> None:
    redis = _redis(redis_url)
    await redis.start()
    for turns in range(4):
        task = asyncio.ensure_future(redis.call("ECHO", "late"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        assert await redis.call("ECHO", "next") == b"next"
    await redis.close()


async def test_a_flushed_script_is_sent_again(redis_url: str, redis_server: RedisServer) -> None:
    redis, script = _redis(redis_url), Script("twice", "return ARGV[1] * 2", writes=False)
    await redis.start()
    for n in range(3):
        redis_server.command("SCRIPT", "FLUSH")
        assert await redis.run(script, [redis.key("t", "x", "y")], [n]) == 2 * n
    await redis.close()


async def test_a_killed_server_is_waited_for(tmp_path: Path) -> None:
    with RedisServer(tmp_path, appendfsync="always") as server:
        redis = _redis(server.url)
        await redis.start()
        await redis.call("SET", "a", 1)
        server.kill()
        task = asyncio.ensure_future(redis.call("GET", "a", repeatable=True))
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
        assert await task == b"1"
        await redis.close()


async def test_an_unknown_outcome_is_said_and_not_repeated(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        redis = _redis(f"{server.url}?timeout=0.3&retry_for=1")
        await redis.start()
        server.pause()
        with pytest.raises(StoreUnavailableError, match=r"no answer came in 0\.3 s") as raised:
            await redis.call("INCR", "n")
        assert raised.value.unknown
        server.go_on()
        assert int(await redis.call("GET", "n", repeatable=True) or 0) <= 1
        await redis.close()


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        url = server.url
    redis = _redis(f"{url}?retry_for=0.1")
    with pytest.raises(StoreUnavailableError, match="no connection") as raised:
        await redis.start()
    assert not raised.value.unknown


async def test_a_bell_rings_for_what_is_published(redis_url: str) -> None:
    redis, other = _redis(redis_url), _redis(redis_url)
    await redis.start()
    await other.start()
    async with redis.listening(["one", "two"]) as bell:
        assert not await bell.wait(0)
        await other.call("PUBLISH", "three", "")
        await other.call("PUBLISH", "two", "")
        assert await bell.wait(30)
        assert not await bell.wait(0)
    await redis.close()
    await other.close()


async def test_a_lost_subscription_is_renewed_and_rings(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        redis = _redis(server.url)
        await redis.start()
        async with redis.listening(["news"]) as bell:
            server.command("CLIENT", "KILL", "TYPE", "normal")
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            assert await bell.wait(30), "what was published meanwhile may be missed, so it rings"
            assert await redis.call("PUBLISH", "news", "") == 1
            assert await bell.wait(30)
        await redis.close()


async def test_out_of_memory_says_so(tmp_path: Path) -> None:
    with RedisServer(tmp_path, settings=(("maxmemory", "1mb"),)) as server:
        redis = _redis(server.url)
        await redis.start()
        with pytest.raises(StoreUnavailableError, match="memory is full") as raised:
            await asyncio.gather(*(redis.call("SET", f"k{n}", b"x" * 100_000) for n in range(100)))
        assert not raised.value.unknown
        await redis.close()


async def test_start_and_close_are_counted(redis_url: str) -> None:
    redis = _redis(redis_url)
    await redis.start()
    await redis.start()
    await redis.close()
    assert await redis.call("PING") == b"PONG"
    await redis.close()
    with pytest.raises(StoreUnavailableError, match="not started"):
        await redis.call("PING")
