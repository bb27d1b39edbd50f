"""Coordination on Redis: the conformance suite, and what is particular to Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loom.clock import Clock
from loom.errors import StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import CoordinationAdapter, Member, ShardLease
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.coordination import CoordinationSuite
from loom_redis.coordination import RedisCoordinationAdapter
from loom_redis.plugin import loom_register_adapters
from loom_redis.proxy import LossyProxy
from loom_redis.testing import RedisServer


def connect(url: str, clock: Clock | None = None) -> RedisCoordinationAdapter:
    return RedisCoordinationAdapter.from_url(LoomURL.parse(url), AdapterContext(clock))


class TestRedisCoordinationAdapter(CoordinationSuite):
    """By the server's time."""

    spec = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("coordination", "redis"))

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str, request: pytest.FixtureRequest) -> None:
        # Nobody gives a sign of life while other processes start.
        self.url = f"{redis_url}&member_ttl={5 if 'process' in request.node.name else 1}"

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        return Harness(lambda: connect(self.url), url=self.url)


class TestRedisCoordinationAdapterByATestsClock(CoordinationSuite):
    """By a clock that was handed in."""

    spec = TestRedisCoordinationAdapter.spec

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[CoordinationAdapter]:
        clock = ManualClock()
        # No url: other processes would give their signs of life by the server's time.
        return Harness(lambda: connect(self.url, clock), clock=clock)


async def test_owners_that_did_not_change_are_not_sent_again(redis_url: str) -> None:
    async with connect(redis_url) as one, connect(redis_url) as two:
        assert await one.owners() == {}
        await two.join(Member(id="a"))
        await two.claim("a", range(256))
        assert len(await one.owners()) == 256
        replies = []
        run = one._redis.run

        async def seen(*arguments: object, **options: object) -> object:
            replies.append(await run(*arguments, **options))  # type: ignore[arg-type]
            return replies[-1]

        one._redis.run = seen  # type: ignore[method-assign]
        found = await one.owners()
        assert len(found) == 256
        found.clear()
        assert len(await one.owners()) == 256
        assert replies == [None, None]
        for change in (two.release("a", [7]), two.claim("a", [7]), two.leave("a")):
            await change
            assert await one.owners() == await two.owners()
        assert None not in replies[2:]


async def test_replies_that_are_lost_change_nothing_twice(redis_server: RedisServer) -> None:
    async with LossyProxy(redis_server.port) as proxy, connect(f"{proxy.url}?namespace=lossy-fleet") as fleet:
        await fleet.join(Member(id="a"))
        for n in range(1, 4):
            proxy.lose_reply_to(b"claim")
            assert await fleet.claim("a", range(3)) == [ShardLease(shard, "a", n) for shard in range(3)]
            proxy.lose_reply_to(b"lead")
            assert await fleet.lead("role", "a") is True
            proxy.lose_reply_to(b"release")
            await fleet.release("a", range(3))
        assert proxy.lost == 9
        await fleet.claim("a", [1])
        [lease] = await fleet.set_apart("a", [(1, "T")]) and await fleet.claim_types("a", [(1, "T")])
        proxy.lose_reply_to(b"reunite")
        with pytest.raises(StoreUnavailableError) as caught:
            await fleet.reunite("a", [(1, "T")])
        assert caught.value.unknown
        assert (await fleet.owners())[1].epoch == lease.epoch + 1


@pytest.mark.crash
async def test_epochs_and_members_outlive_a_killed_server(tmp_path: Path) -> None:
    with RedisServer(tmp_path, appendfsync="always") as server:
        async with connect(server.url) as fleet:
            await fleet.shard_count(256)
            await fleet.join(Member(id="a", serves=("T",)))
            for n in range(1, 4):
                assert len(await fleet.claim("a", range(256))) == 256
                await fleet.lead("role", "a")
                server.kill()
                await asyncio.to_thread(server.start)
                await fleet.heartbeat("a")
                assert await fleet.shard_count(0) == 256
                assert await fleet.owners() == {shard: ShardLease(shard, "a", n) for shard in range(256)}
                await fleet.leave("a")
                await fleet.join(Member(id="a", serves=("T",)))


async def test_a_fleet_lives_on_when_memory_is_full(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with connect(server.url) as fleet:
            await fleet.join(Member(id="a"))
            await fleet.join(Member(id="b"))
            await fleet.claim("a", range(10))
            server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(StoreUnavailableError, match="memory is full"):
                await fleet.claim("a", [11])
            await fleet.heartbeat("a")
            await fleet.release("a", [1])
            await fleet.leave("a")
            assert [member.id for member in await fleet.members()] == ["b"]
            assert await fleet.owners() == {}
            server.command("SCRIPT", "FLUSH")
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert await fleet.claim("b", [1, 2, 11]) == [
                ShardLease(1, "b", 2), ShardLease(2, "b", 2), ShardLease(11, "b", 1),
            ]  # fmt: skip
