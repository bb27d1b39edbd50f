"""Poisoned work that is sent again: it goes on at once, without anybody calling."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from loom import Actor, Context, workflow
from loom.cli.tree import build
from loom.runtime.messages import shard_of

from .bank import Account, Gate
from .place import SHARDS, Place, eventually

GATES: list[Gate] = []


@pytest.fixture(autouse=True)
async def gate() -> Gate:
    GATES[:] = [Gate()]
    return GATES[0]


class Worker(Actor[int]):
    def initial_state(self) -> int:
        return 0

    async def work(self) -> None:
        await self.ctx.step(_begin)()
        await GATES[0].wait()
        self.state += 1
        self.ctx.send(self.ctx.actor(Account, "done").deposit, 1)


async def _begin() -> None: ...


@workflow
async def errand(ctx: Context) -> None:
    await ctx.step(GATES[0].wait, name="gate")()
    await ctx.actor(Account, "done").deposit(1)


async def poison(place: Place, stream: str) -> None:
    """Crash hosts over the work on the stream until it is left alone."""
    for _ in range(5):
        app = await place.open(Account, Worker, workflows=[errand], options={"crash_attempts": 1})
        if not GATES[0].entered:
            if stream.startswith("run/"):
                await app.workflow(errand, "e").start()
            else:
                asyncio.ensure_future(app.actor(Worker, "w").work()).add_done_callback(lambda done: done.exception())

        async def over(app: Any = app) -> bool:
            record = await app.host.pending.get(shard_of(stream, SHARDS), stream)
            return GATES[0].entered > 0 or (record is not None and record.status == "poisoned")

        await eventually(over)
        await asyncio.sleep(0.05)
        record = await app.host.pending.get(shard_of(stream, SHARDS), stream)
        await place.crash(app)
        if record is not None and record.status == "poisoned":
            return
    pytest.fail("it was never left alone")


@pytest.mark.parametrize("stream", ["actor/Worker/w", "run/errand/e"])
async def test_it_goes_on_by_itself(sqlite: Place, gate: Gate, stream: str) -> None:
    await poison(sqlite, stream)
    gate.open.set()
    app = await sqlite.open(Account, Worker, workflows=[errand], options={"crash_attempts": 1})
    assert stream not in app.host.cells
    arguments = ["dlq", "redrive", "pending", "--url", sqlite.url, "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, build(), arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["redriven"] == [{"queue": "pending", "id": stream, "resumed": True}]

    async def done() -> bool:
        return await app.actor(Account, "done").balance() == 1

    await eventually(done)
    record = await app.host.pending.get(shard_of(stream, SHARDS), stream)
    assert record is None or record.status != "poisoned"


async def test_what_is_not_pending_is_not_woken(sqlite: Place) -> None:
    from loom.codec import decode
    from loom.runtime.messages import Kind

    await sqlite.open(Account)
    async with sqlite.make().client() as client:
        assert decode(await client.ask(Kind.WAKE, "actor/Account/nobody")) is False
