"""Coordination on Redis: the conformance suite, and what is particular to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loom.clock import Clock
from loom.errors import NotAMemberError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import CoordinationAdapter, Member, ShardLease, TypeLease
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


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[RedisCoordinationAdapter]:
    """Shard 1 is a's, which serves nothing; b and c serve T."""
    async with connect(redis_url) as adapter:
        await adapter.join(Member(id="a"))
        await adapter.join(Member(id="b", serves=("T", "U")))
        await adapter.join(Member(id="c", serves=("T",)))
        await adapter.claim("a", [1])
        yield adapter


async def test_a_type_is_claimed_where_the_owner_of_the_shard_does_not_serve_it(
    fleet: RedisCoordinationAdapter,
) -> None:
    [lease] = await fleet.claim_types("b", [(1, "T"), (2, "T")])
    assert lease == TypeLease(1, "T", "b", 2)
    assert await fleet.claim_types("b", [(1, "T")]) == [lease]
    assert await fleet.claim_types("c", [(1, "T")]) == []
    assert (await fleet.owners())[1] == ShardLease(1, "a", 1, (lease,))
    assert await fleet.claim("a", [1]) == [ShardLease(1, "a", 1, (lease,))]
    await fleet.claim("c", [2])
    assert await fleet.claim_types("b", [(2, "T")]) == []  # c serves it itself
    assert await fleet.claim_types("b", [(2, "U")]) == [TypeLease(2, "U", "b", 2)]
    with pytest.raises(NotAMemberError):
        await fleet.claim_types("x", [(1, "T")])


async def test_epochs_of_a_shard_and_its_types_are_one_line(fleet: RedisCoordinationAdapter) -> None:
    epoch = 1
    for name in "bcb":
        [lease] = await fleet.claim_types(name, [(1, "T")])
        assert lease.epoch > epoch
        epoch = lease.epoch
        await fleet.release_types("a", [(1, "T")])
        await fleet.release_types(name, [(1, "T")])
    await fleet.release("a", [1])
    [shard] = await fleet.claim("c", [1])
    assert shard.epoch > epoch
    assert [found.owner for found in shard.types] == [""]


async def test_a_type_is_reunited_with_its_shard_by_whoever_has_both(fleet: RedisCoordinationAdapter) -> None:
    [lease] = await fleet.claim_types("b", [(1, "T")])
    assert await fleet.reunite("b", [(1, "T")]) == {}
    assert await fleet.reunite("a", [(1, "T")]) == {}
    await fleet.release("a", [1])
    [shard] = await fleet.claim("b", [1])
    assert shard.types == (lease,)
    epochs = await fleet.reunite("b", [(1, "T")])
    assert epochs[1] > max(shard.epoch, lease.epoch)
    assert await fleet.claim("b", [1]) == [ShardLease(1, "b", epochs[1])]
    assert await fleet.claim_types("c", [(1, "T")]) == []
    assert await fleet.claim_types("b", [(1, "T")]) == []  # the shard's owner gets only what is set apart


async def test_types_set_apart_wait_for_somebody(fleet: RedisCoordinationAdapter) -> None:
    assert await fleet.set_apart("a", [(1, "T"), (2, "T")]) == [TypeLease(1, "T", "", 0)]
    assert await fleet.set_apart("a", [(1, "T")]) == [TypeLease(1, "T", "", 0)]
    assert await fleet.set_apart("b", [(1, "V")]) == []
    [lease] = await fleet.claim_types("c", [(1, "T")])
    await fleet.leave("c")
    assert (await fleet.owners())[1].types == (TypeLease(1, "T", "", lease.epoch),)
    assert (await fleet.claim_types("b", [(1, "T")]))[0].epoch > lease.epoch


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
