"""A host that stops in good order: what it leaves to others, and that it lives until it has left."""

from __future__ import annotations

import asyncio
from typing import Any

from loom import Actor
from loom.runtime.messages import mailbox_queue

from .bank import Account
from .place import SHARDS, Place, eventually, queue


async def test_a_stop_in_the_middle_of_a_receive_leaves_nothing_leased(sqlite: Place) -> None:
    """What the stopping host was about to get is there for another at once, not when a lease ends."""
    stopping, other = await sqlite.open(Account), await sqlite.open(Account)
    mailboxes: Any = queue(stopping)
    taken, gate, take = asyncio.Event(), asyncio.Event(), mailboxes._take
    write = mailboxes._database.write

    async def slow_write(work: Any) -> Any:
        result = await write(work)
        taken.set()
        await gate.wait()
        return result

    async def slow_take(*arguments: Any) -> Any:
        mailboxes._database.write = slow_write
        try:
            return await take(*arguments)
        finally:
            mailboxes._database.write = write

    async def cannot(queues: Any) -> int:
        return 0

    other.host.queue.end_leases = cannot  # type: ignore[method-assign]
    await eventually(lambda: len(stopping.host.placement.epochs) < SHARDS and stopping.host.placement.epochs)
    mailboxes._take = slow_take
    async with sqlite.make(Account).client() as client:
        calls = [asyncio.ensure_future(client.actor(Account, f"k{n}").deposit(1)) for n in range(4 * SHARDS)]
        await taken.wait()
        closing = asyncio.ensure_future(sqlite.close(stopping))
        await eventually(lambda: stopping.host.inbox.stopped)
        gate.set()
        await closing
        assert await asyncio.wait_for(asyncio.gather(*calls), 20) == [1] * len(calls)
    depths = [await queue(other).depth(mailbox_queue(shard)) for shard in range(SHARDS)]
    assert [depth.leased for depth in depths] == [0] * SHARDS


async def test_a_host_that_drains_stays_alive_until_it_has_left(memory: Place) -> None:
    gate = asyncio.Event()

    class Slow(Actor[None]):
        async def wait(self) -> str:
            await gate.wait()
            return "done"

    app = await memory.open(Slow, options={"drain_seconds": 20.0})
    call = asyncio.ensure_future(app.actor(Slow, "a").wait())
    await eventually(lambda: app.host.turns_running)
    host, beats, inner = app.host, 0, app.host.coordination.heartbeat

    async def heartbeat(member_id: str) -> None:
        nonlocal beats
        beats += 1
        await inner(member_id)

    host.coordination.heartbeat = heartbeat  # type: ignore[method-assign]
    closing = asyncio.ensure_future(memory.close(app))
    await eventually(lambda: host.stopping)
    seen = beats
    await eventually(lambda: beats >= seen + 2, "heartbeats while the host drains")
    assert host.turns_running
    gate.set()
    assert await call == "done"
    await closing


async def test_actors_clean_up_beside_one_another_when_their_host_stops(memory: Place) -> None:
    """One after the other they would keep callers from the next owner: for minutes where there are thousands."""
    cleaning = most = 0

    class Tidy(Actor[None]):
        async def touch(self) -> None: ...

        async def on_deactivate(self) -> None:
            nonlocal cleaning, most
            cleaning += 1
            most = max(most, cleaning)
            await asyncio.sleep(0.05)
            cleaning -= 1
            if self.key == "1":
                raise RuntimeError("the others clean up nevertheless")

    app = await memory.open(Tidy)
    for n in range(30):
        await app.actor(Tidy, str(n)).touch()
    await memory.close(app)
    assert most == 30
    assert cleaning == 0
