"""The whole runtime with its requests and replies on BullMQ, everything else on SQLite."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from loom import Actor, Loom
from loom.plugins import AdapterContext, LoomURL
from loom.testing.suites.base import eventually
from loom_redis.bullmq import BullMQMessageQueue

SHARDS = 8


class Balance(msgspec.Struct):
    amount: int = 0


class Account(Actor[Balance]):
    async def deposit(self, amount: int) -> int:
        self.state.amount += amount
        return self.state.amount

    async def give(self, target: str, amount: int) -> int:
        """Takes the money here and sends it."""
        self.state.amount -= amount
        self.ctx.send(self.ctx.actor(Account, target).deposit, amount)
        return self.state.amount

    async def fail(self) -> None:
        raise ValueError("no")


@pytest.fixture
def queue_url(redis_url: str) -> str:
    return redis_url.replace("redis://", "bullmq://")


@pytest.fixture
def environ(queue_url: str, tmp_path: Path) -> dict[str, str]:
    """The configuration as an operator writes it."""
    return {"LOOM_URL": f"sqlite:///{tmp_path}/loom.db", "LOOM_QUEUE_URL": queue_url, "LOOM_ENV": "test"}


@pytest.fixture
def app(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Loom:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return make_app()


def make_app() -> Loom:
    return Loom([Account], options={"shards": SHARDS, "drain_seconds": 5.0})


async def test_a_client_calls_actors_of_a_host(app: Loom, queue_url: str) -> None:
    async with make_app(), app.client() as client:
        names = [f"a{n}" for n in range(20)]
        deposits = [client.actor(Account, name).deposit(1) for name in names for _ in range(10)]
        assert sum(await asyncio.gather(*deposits)) == 20 * sum(range(1, 11))
        for name in names:
            assert await client.actor(Account, name).give("bank", 3) == 7
        with pytest.raises(ValueError, match="no"):
            await client.actor(Account, "a0").fail()
        await eventually(lambda: _has(client.actor(Account, "bank").deposit(0), 60), "the bank has got it all")
    await _nothing_left(queue_url)


@pytest.mark.crash
async def test_calls_survive_a_host_that_is_killed(app: Loom, environ: dict[str, str], queue_url: str) -> None:
    """What a killed host had received comes to the next: nothing is lost, and nothing is done twice."""
    names = [f"a{n}" for n in range(6)]
    acknowledged = dict.fromkeys(names, 0)

    async with app.client() as client:

        async def deposit(name: str) -> None:
            while acknowledged[name] < 60:
                acknowledged[name] = await client.actor(Account, name).deposit(1)

        async with _host(environ) as first, asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(deposit(name))
            await eventually(lambda: sum(acknowledged.values()) >= 60, "the first host works")
            first.kill()
            async with _host(environ):
                await eventually(lambda: sum(acknowledged.values()) == 360, "the second host has done the rest")
        assert acknowledged == dict.fromkeys(names, 60)
    await _nothing_left(queue_url)


def test_check_says_that_there_is_no_order(environ: dict[str, str], tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "loom.cli", "check"],
        env={**_environment(), **environ}, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "There is no order between calls" in told.stdout, told
    assert told.returncode == 0, told


@asynccontextmanager
async def _host(environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A host in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, stdout=subprocess.PIPE, env={**_environment(), **environ}
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.stdout.read()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


async def _has(call: object, amount: int) -> bool:
    return await call == amount  # type: ignore[misc]


async def _nothing_left(url: str) -> None:
    """Every request is finished. The last reply to a client that left may not be, but it is forgotten in time."""
    async with BullMQMessageQueue.from_url(LoomURL.parse(url), AdapterContext()) as queue:
        await eventually(lambda: _no_requests(queue), "every request is finished")
        for name in await queue.queues():
            assert 0 < await queue._redis.call("PTTL", queue._prefix(name) + "active") < 400_000


async def _no_requests(queue: BullMQMessageQueue) -> bool:
    return not any(name.startswith("loom/shard/") for name in await queue.queues())


async def _serve() -> None:
    async with make_app():
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
