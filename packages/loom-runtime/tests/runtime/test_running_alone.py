"""What runs alone gets what it waits for, however long the others stand at the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loom import Actor, Context, Loom, workflow
from loom.runtime.messages import shard_of

from .bank import Account, Gate
from .place import SHARDS, Place, eventually

SOON = 10.0
"""Far below the 30 s after which a turn is given up."""


class Doors:
    gate = Gate()


@pytest.fixture(autouse=True)
async def gate() -> Gate:
    Doors.gate = Gate()
    return Doors.gate


class Relay(Actor[None]):
    async def ask(self, target: str) -> int:
        await Doors.gate.wait()
        return await self.ctx.actor(Account, target).deposit(1)

    async def ask_through(self, middle: str, target: str) -> int:
        await Doors.gate.wait()
        return await self.ctx.actor(Relay, middle).forward(target)

    async def forward(self, target: str) -> int:
        return await self.ctx.actor(Account, target).deposit(1)

    async def in_steps(self, target: str) -> int:
        await self.ctx.step(_nothing)()
        await Doors.gate.wait()
        return await self.ctx.actor(Account, target).deposit(1)


async def _nothing() -> None: ...


@asynccontextmanager
async def suspect(place: Place, method: str, *args: Any) -> AsyncIterator[tuple[Loom, asyncio.Future[Any]]]:
    """A host in which a request that was begun by a crashed host runs alone, up to the gate."""
    first = await place.open(Account, Relay)
    async with place.make(Account, Relay).client() as client:
        call = asyncio.ensure_future(client.call("Relay", "r", method, *args))
        await eventually(lambda: Doors.gate.entered == 1)
        await place.crash(first)
        Doors.gate.entered = 0
        second = await place.open(Account, Relay)
        await place.expire_leases(second)
        await eventually(lambda: Doors.gate.entered == 1 and second.host.exclusive.busy)
        yield second, call


@pytest.mark.parametrize(("method", "args"), [("ask", ("t",)), ("ask_through", ("m", "t"))])
async def test_its_calls_pass_those_who_wait_at_the_door(
    place: Place, gate: Gate, method: str, args: tuple[str, ...]
) -> None:
    async with suspect(place, method, *args) as (host, call):
        waiting = [asyncio.ensure_future(host.actor(Account, "t").deposit(10)) for _ in range(3)]
        waiting.append(asyncio.ensure_future(host.actor(Relay, "m").forward("u")))
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        gate.open.set()
        assert await asyncio.wait_for(call, SOON) == 1
        assert await asyncio.wait_for(asyncio.gather(*waiting), SOON) == [11, 21, 31, 1]


async def test_a_suspicious_request_at_the_door_is_passed_too(place: Place, gate: Gate) -> None:
    """Another that has to run alone must wait for the first, and the first not for it."""
    first = await place.open(Account, Relay)
    async with place.make(Account, Relay).client() as client:
        asking = asyncio.ensure_future(client.call("Relay", "r", "ask", "t"))
        await eventually(lambda: gate.entered == 1)
        first.host.inbox.settle = lambda job, reply: None  # type: ignore[method-assign]
        first.host.committer.append = _never  # type: ignore[method-assign]
        other = asyncio.ensure_future(client.actor(Account, "t").deposit(10))
        await eventually(lambda: first.host.turns_running == 1 and "actor/Account/t" in first.host.cells)
        await asyncio.sleep(0.05)
        await place.crash(first)
        gate.entered = 0
        second = await place.open(Account, Relay)
        await place.expire_leases(second)
        await eventually(lambda: gate.entered == 1)
        gate.open.set()
        results = await asyncio.wait_for(asyncio.gather(asking, other), 2 * SOON)
        assert results in ([1, 11], [11, 10])


async def _never(append: Any) -> Any:
    await asyncio.Event().wait()


async def test_a_turn_that_is_resumed_alone_does_not_wait_for_itself(place: Place, gate: Gate) -> None:
    first = await place.open(Account, Relay)
    call = asyncio.ensure_future(first.actor(Relay, "r").in_steps("t"))
    await eventually(lambda: gate.entered == 1)
    await place.crash(first)
    await asyncio.gather(call, return_exceptions=True)
    shard = shard_of("actor/Relay/r", SHARDS)
    for entered in (2, 3):  # the first resumption is beside others, the second alone
        again = await place.open(Account, Relay)
        await eventually(lambda entered=entered: gate.entered == entered, seconds=SOON)
        record = await again.host.pending.get(shard, "actor/Relay/r")
        assert record is not None
        assert record.resumed == entered - 1
        if entered == 2:
            await place.crash(again)
    assert again.host.exclusive.busy
    gate.open.set()
    await eventually(lambda: not again.host.exclusive.busy, seconds=SOON)
    assert await again.actor(Account, "t").balance() == 1


async def test_a_run_that_is_resumed_alone_gets_the_answers_of_its_calls(place: Place, gate: Gate) -> None:
    @workflow
    async def errand(ctx: Context) -> int:
        return await ctx.actor(Relay, "r").ask("t")

    app = await place.open(Account, Relay, workflows=[errand])
    run = await app.workflow(errand, "e").start()
    await eventually(lambda: gate.entered == 1)
    for entered in (2, 3):
        await place.crash(app)
        app = await place.open(Account, Relay, workflows=[errand])
        await eventually(lambda entered=entered: gate.entered == entered, seconds=SOON)
    assert app.host.exclusive.busy
    other = asyncio.ensure_future(app.actor(Account, "t").deposit(10))
    await asyncio.sleep(0.05)
    assert not other.done()
    gate.open.set()
    run = app.workflow(errand, "e")
    assert await run.result(timeout=SOON) == 1
    assert await asyncio.wait_for(other, SOON) == 11


async def test_an_unfinished_turn_that_it_calls_is_finished_for_it(place: Place, gate: Gate) -> None:
    """The actor it calls has a turn to finish first, and that one would wait for the door."""

    class Middle(Actor[None]):
        async def long(self) -> str:
            await self.ctx.step(_nothing)()
            await asyncio.sleep(0 if Doors.gate.open.is_set() else 3600)
            return "finished"

        async def quick(self) -> str:
            return "answered"

    class Asker(Actor[None]):
        async def ask(self) -> str:
            await Doors.gate.wait()
            return await self.ctx.actor(Middle, "m").quick()

    first = await place.open(Middle, Asker)
    async with place.make().client() as client:
        long = asyncio.ensure_future(first.actor(Middle, "m").long())

        async def begun() -> bool:
            return (await first.host.journal.head("actor/Middle/m")).seq == 2

        await eventually(begun)
        call = asyncio.ensure_future(client.call("Asker", "a", "ask"))
        await eventually(lambda: gate.entered == 1)
        # Found by the call, and not before it by recovery.
        await first.host.pending.remove(shard_of("actor/Middle/m", SHARDS), "actor/Middle/m")
        await place.crash(first)
        await asyncio.gather(long, return_exceptions=True)
        gate.entered = 0
        second = place.make(Middle, Asker)
        await second.__aenter__()
        place.apps.append(second)
        await place.expire_leases(second)
        await eventually(lambda: gate.entered == 1)
        gate.open.set()
        assert await asyncio.wait_for(call, SOON) == "answered"
