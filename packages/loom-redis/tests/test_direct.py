"""Replies around the queue: one that was lost is asked for again, and what it answers is not done again."""

from __future__ import annotations

import asyncio

import pytest

from loom import Actor, Loom
from loom_redis.testing import RedisServer

STARTED: asyncio.Event
GO: asyncio.Event


class Counter(Actor[int]):
    def initial_state(self) -> int:
        return 0

    async def add(self, amount: int) -> int:
        self.state += amount
        STARTED.set()
        await GO.wait()
        return self.state


@pytest.fixture(autouse=True)
def _events() -> None:
    global STARTED, GO
    STARTED, GO = asyncio.Event(), asyncio.Event()


def _app(url: str) -> Loom:
    return Loom(actors=[Counter], url=url, env="test", options={"shards": 4})


async def test_a_reply_that_nobody_heard_is_asked_for_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from loom_redis.direct import RedisDirectChannel

    said = asyncio.Event()

    async def lose(self: object, messages: object) -> None:
        monkeypatch.undo()
        said.set()

    async with _app(redis_url) as host, _app(redis_url).client() as client:
        GO.set()
        assert await client.actor(Counter, "c").add(1) == 1
        monkeypatch.setattr(RedisDirectChannel, "send_many", lose)
        call = asyncio.ensure_future(client.actor(Counter, "c").add(1))
        await said.wait()
        assert not call.done()
        client._router._ask_again()  # as when the connection is there again
        assert await call == 2
        assert await host.actor(Counter, "c").add(1) == 3


async def test_connections_cut_in_the_middle_of_a_call(redis_server: RedisServer, redis_url: str) -> None:
    async with _app(redis_url), _app(redis_url).client() as client:
        call = asyncio.ensure_future(client.actor(Counter, "c").add(1))
        await STARTED.wait()
        redis_server.command("CLIENT", "KILL", "TYPE", "normal")
        redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
        GO.set()
        assert await call == 1
        assert await client.actor(Counter, "c").add(1) == 2


async def test_nothing_of_replies_is_left_in_the_server(redis_server: RedisServer, redis_url: str) -> None:
    GO.set()
    async with _app(redis_url) as host, _app(redis_url).client() as client:
        await asyncio.gather(*(client.actor(Counter, f"c{n}").add(1) for n in range(20)))
        assert [name for name in await host.host.queue.queues() if "reply" in name] == []
