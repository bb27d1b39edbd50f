"""The app as a service: its life, its resources, code without a loop, and apps within apps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from loom import Actor, Loom
from loom.errors import NotRunningError, ShardCountError

from .bank import Account
from .place import SHARDS, Place, eventually, queue


class Http:
    name = "real"


class FakeHttp(Http):
    name = "fake"


LOG: list[str] = []


class Fetches(Actor[None]):
    async def name(self) -> str:
        return self.ctx.resource(Http).name

    async def missing(self) -> Any:
        return self.ctx.resource(dict)

    async def on_deactivate(self) -> None:
        LOG.append(f"deactivated with {self.ctx.resource(Http).name}")


@asynccontextmanager
async def lifespan(app: Loom) -> AsyncIterator[Any]:
    LOG.append("up")
    yield FakeHttp() if getattr(app, "fake", False) else Http()
    LOG.append("down")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()


async def test_resources_live_as_long_as_the_host(place: Place) -> None:
    app = await place.open(Fetches, lifespan=lifespan)
    assert await app.actor(Fetches, "f").name() == "real"
    with pytest.raises(LookupError, match="the lifespan yielded Http"):
        await app.actor(Fetches, "f").missing()
    await place.close(app)
    assert LOG == ["up", "deactivated with real", "down"]


async def test_a_resource_can_be_overridden(memory: Place) -> None:
    app = await memory.open(Fetches, lifespan=lifespan)
    with app.override(Http, FakeHttp()):
        assert await app.actor(Fetches, "f").name() == "fake"
    assert await app.actor(Fetches, "f").name() == "real"


async def test_a_lifespan_that_fails_starts_nothing(memory: Place) -> None:
    class Broken(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            raise OSError("no database")

        async def __aexit__(self, *exc: object) -> None: ...

    app = memory.make(Account, lifespan=lambda app: Broken())
    with pytest.raises(OSError, match="no database"):
        await app.__aenter__()
    with pytest.raises(NotRunningError):
        app.actor(Account, "a")


async def test_the_asgi_lifespan_hosts(place: Place) -> None:
    app = place.make(Account)
    async with app.lifespan(object()) as state:
        assert await state["loom"].actor(Account, "a").deposit(1) == 1
    with pytest.raises(NotRunningError):
        app.actor(Account, "a")


def test_code_without_a_loop(tmp_path: Any) -> None:
    app = Loom([Account], url=f"sqlite:///{tmp_path}/loom.db", env="test", options={"shards": 4})
    with app.sync as loom:
        assert loom.actor(Account, "a").deposit(5) == 5
        assert loom.actor(Account, "a", idempotency_key="k").deposit(5) == 10
        assert loom.actor(Account, "a", idempotency_key="k").deposit(5) == 10
        with pytest.raises(Exception, match="a"):
            loom.actor(Account, "a").withdraw(500)
    with app.sync as loom:
        assert loom.actor(Account, "a").balance() == 10
    with pytest.raises(NotRunningError):
        app.sync.run(asyncio.sleep(0))


async def test_an_app_runs_once_at_a_time_and_may_run_again(place: Place) -> None:
    app = place.make(Account)
    async with app:
        with pytest.raises(NotRunningError):
            await app.__aenter__()
        await app.actor(Account, "a").deposit(1)
        reference = app.actor(Account, "a")
    with pytest.raises(NotRunningError):
        await reference.deposit(1)


async def test_a_client_takes_no_shards(place: Place) -> None:
    app = place.make(Account)
    async with app.client() as client:
        call = asyncio.ensure_future(client.actor(Account, "a").deposit(1))
        await asyncio.sleep(0.05)
        assert not call.done()
        host = await place.open(Account)
        assert await call == 1
        assert len(await host.host.coordination.members()) == 1


async def test_a_host_with_another_number_of_shards_may_not_join(place: Place) -> None:
    await place.open(Account)
    with pytest.raises(ShardCountError, match=f"{SHARDS} shards"):
        await place.make(Account, options={"shards": 2 * SHARDS}).__aenter__()


async def test_a_stopped_host_leaves_nothing_leased(place: Place) -> None:
    app = await place.open(Account)
    async with place.make(Account).client() as client:
        calls = [asyncio.ensure_future(client.actor(Account, f"k{n}").deposit(1)) for n in range(30)]
        await eventually(lambda: app.host.inbox.outstanding or any(call.done() for call in calls))
        await place.close(app)
        again = await place.open(Account)
        await asyncio.gather(*calls)
        total = [await again.actor(Account, f"k{n}").balance() for n in range(30)]
        assert total == [1] * 30
        depths = [await queue(again).depth(name) for name in await queue(again).queues() if "shard" in name]
        assert all(depth.dead == 0 for depth in depths)


async def test_the_task_factory_of_the_loop_comes_back(memory: Place) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    one = await memory.open(Account)
    two = await memory.open(Account)
    await memory.close(one)
    await memory.close(two)
    assert loop.get_task_factory() is before
