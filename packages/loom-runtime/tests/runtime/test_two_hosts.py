"""Two hosts in one process over the same storage: one writes, nothing is doubled, and calls find their way."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from loom import Actor, Loom
from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
from loom.errors import FencedError
from loom.ports import Append
from loom.runtime.messages import shard_of
from loom.runtime.rendezvous import preferred_owner
from loom.testing.clock import ManualClock

from .bank import Account
from .place import SHARDS, Place, eventually, journal

pytestmark = pytest.mark.slow


async def settled(*apps: Loom) -> None:
    """Until every shard is where rendezvous hashing wants it."""
    members = [app.host.placement.member.id for app in apps]

    def right() -> bool:
        for app in apps:
            me = app.host.placement.member.id
            wanted = {shard for shard in range(SHARDS) if preferred_owner(shard, members) == me}
            if {s for s in app.host.placement.epochs if app.host.placement.owns(s)} != wanted:
                return False
        return True

    await eventually(right, "the balance")


def keys_of(app: Loom, count: int, prefix: str = "k") -> list[str]:
    """Keys of accounts whose shard the app owns."""
    owned = {s for s in range(SHARDS) if app.host.placement.owns(s)}
    names = (f"{prefix}{n}" for n in range(10_000))
    return list(itertools.islice((n for n in names if shard_of(f"actor/Account/{n}", SHARDS) in owned), count))


async def test_calls_cross_from_host_to_host(place: Place) -> None:
    one, two = await place.open(Account), await place.open(Account)
    await settled(one, two)
    for asker, owner in ((one, two), (two, one)):
        if not (keys := keys_of(owner, 2)):
            continue
        for key in keys:
            assert await asker.actor(Account, key).deposit(5) == 5
            assert await asker.actor(Account, key).balance() == 5
            assert await owner.actor(Account, key).balance() == 5


async def test_a_client_calls_and_never_hosts(place: Place) -> None:
    await place.open(Account)
    app = place.make(Account)
    async with app.client() as client:
        assert await client.actor(Account, "a").deposit(5) == 5
        assert await client.call("Account", "a", "deposit", 2) == 7
        assert await client.call("Account", "a", "deposit", amount=2) == 9
    with pytest.raises(Exception, match="not running"):
        await client.actor(Account, "a").deposit(5)


async def test_two_hosts_that_both_believe_they_own_a_shard(place: Place) -> None:
    """The second takes over what the first was lent, as if the first had been taken for dead. Both go on writing."""
    one = await place.open(Account)
    await one.actor(Account, "a").deposit(1)
    two = place.make(Account)
    await _steal(place, one, two)
    results = await asyncio.gather(
        *(app.actor(Account, "a").deposit(1) for app in (one, two) * 10), return_exceptions=True
    )
    acknowledged = [result for result in results if not isinstance(result, BaseException)]
    assert acknowledged, results

    async def quiet() -> bool:
        return bool(await two.actor(Account, "a").balance() == 1 + len(acknowledged))

    await eventually(quiet)
    assert sorted(acknowledged) == list(range(2, 2 + len(acknowledged)))
    assert len(acknowledged) == len(results), results


async def _steal(place: Place, one: Loom, two: Loom) -> None:
    """Start ``two`` and let it own everything while ``one`` still believes in its own shards."""

    async def deaf(self: Any = None) -> None:
        await asyncio.Event().wait()

    host = one.host
    assert host.placement._loop is not None
    host.placement._loop.cancel()
    await host.coordination.leave(host.placement.member.id)
    await two.__aenter__()
    place.apps.append(two)
    assert two.host.placement.owns(shard_of("actor/Account/a", SHARDS))
    assert host.placement.owns(shard_of("actor/Account/a", SHARDS))


async def test_the_zombie_is_fenced_and_reads_its_lease_again(place: Place) -> None:
    one = await place.open(Account)
    await one.actor(Account, "a").deposit(1)
    two = place.make(Account)
    await _steal(place, one, two)
    assert await two.actor(Account, "a").deposit(1) == 2
    shard = shard_of("actor/Account/a", SHARDS)
    head = await journal(two).head("actor/Account/a")
    assert head.fence == two.host.placement.epochs[shard] > one.host.placement.epochs[shard]
    stale = Append("actor/Account/a", head.seq, head.entry_id, "zombie", b"", one.host.placement.epochs[shard])
    [refusal] = await journal(one).append_many([stale])
    assert isinstance(refusal, FencedError)
    assert await asyncio.wait_for(one.actor(Account, "a").deposit(1), 20) == 3
    assert not one.host.placement.owns(shard)
    assert await two.actor(Account, "a").balance() == 3


async def test_a_read_only_handler_notices_that_somebody_else_has_written(place: Place) -> None:
    one = await place.open(Account)
    await one.actor(Account, "a").deposit(1)
    two = place.make(Account)
    await _steal(place, one, two)
    await two.actor(Account, "a").deposit(1)
    one.host.placement._members = 2
    assert await one.actor(Account, "a").balance() == 2


async def test_a_host_that_was_paused_does_not_believe_itself_alone(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Account)
    app.host.coordination.member_ttl = 10.0
    assert app.host.placement.alone
    assert app.host.placement._loop is not None
    app.host.placement._loop.cancel()
    await asyncio.sleep(0)
    clock.advance(11.0)
    assert not app.host.placement.alone


async def test_pipelined_calls_keep_their_order_across_a_conflict(place: Place) -> None:
    one = await place.open(Account)
    await one.actor(Account, "a").note("0")
    await _write_behind(one, "actor/Account/a")
    calls = [asyncio.ensure_future(one.actor(Account, "a").note(str(n))) for n in range(1, 8)]
    await asyncio.gather(*calls)
    assert await one.actor(Account, "a").notes() == [str(n) for n in range(8)]


async def _write_behind(app: Loom, stream: str) -> None:
    """Another host appends a turn that failed: the head moves, the state stays."""
    from loom.runtime.entries import TurnCommitted, encode_entry

    head = await journal(app).head(stream)
    entry = TurnCommitted(request="", method="x", at=0.0, state=None, version=1)
    await journal(app).append(Append(stream, head.seq, head.entry_id, "other", encode_entry([entry]), head.fence))


async def test_a_conflict_of_one_stream_leaves_the_others_of_its_batch(place: Place) -> None:
    app = await place.open(Account)
    keys = [f"k{n}" for n in range(20)]
    for key in keys:
        await app.actor(Account, key).deposit(1)
    await _write_behind(app, "actor/Account/k7")
    conflicts = 0
    inner = app.host.placement.reread

    async def reread() -> None:
        nonlocal conflicts
        conflicts += 1
        await inner()

    app.host.placement.reread = reread  # type: ignore[method-assign]
    before = app.host.committer.batches
    assert await asyncio.gather(*(app.actor(Account, key).deposit(1) for key in keys)) == [2] * 20
    assert conflicts == 1
    assert app.host.committer.batches - before < 10


async def test_a_join_moves_only_its_share_and_a_leave_gives_it_back(place: Place) -> None:
    one = await place.open(Account)
    before = dict(one.host.placement.epochs)
    two = await place.open(Account)
    await settled(one, two)
    kept = one.host.placement.epochs
    assert all(kept[shard] == before[shard] for shard in kept)  # what stays does not change hands
    assert set(kept) | set(two.host.placement.epochs) == set(range(SHARDS))
    await place.close(two)
    await eventually(lambda: len(one.host.placement.epochs) == SHARDS)


async def test_handing_over_fails_no_call(place: Place) -> None:
    one = await place.open(Account)
    done = asyncio.Event()
    keys = [f"k{n}" for n in range(16)]
    counts = dict.fromkeys(keys, 0)

    async def caller(key: str) -> None:
        while not done.is_set():
            counts[key] += 1
            assert await one.actor(Account, key).deposit(1) == counts[key]

    callers = [asyncio.ensure_future(caller(key)) for key in keys]
    two = await place.open(Account)
    await settled(one, two)
    seen = dict(counts)
    await eventually(lambda: all(counts[key] > seen[key] + 1 for key in keys))
    await place.close(two)
    await eventually(lambda: len(one.host.placement.epochs) == SHARDS)
    seen = dict(counts)
    await eventually(lambda: all(counts[key] > seen[key] + 1 for key in keys))
    done.set()
    await asyncio.gather(*callers)
    for key in keys:
        assert await one.actor(Account, key).balance() == counts[key]


async def test_heartbeats_go_on_while_a_shard_is_handed_over(memory: Place) -> None:
    gate = asyncio.Event()

    class Slow(Actor[None]):
        async def wait(self) -> str:
            await gate.wait()
            return "done"

    one = await memory.open(Slow, options={"drain_seconds": 20.0})
    calls = [asyncio.ensure_future(one.actor(Slow, str(n)).wait()) for n in range(30)]
    await eventually(lambda: one.host.turns_running == 30)
    beats = 0
    inner = one.host.coordination.heartbeat

    async def heartbeat(member_id: str) -> None:
        nonlocal beats
        beats += 1
        await inner(member_id)

    one.host.coordination.heartbeat = heartbeat  # type: ignore[method-assign]
    await memory.open(Slow)
    await eventually(lambda: one.host.placement._leaving)
    seen = beats
    await eventually(lambda: beats >= seen + 2)
    assert one.host.placement._leaving
    gate.set()
    assert await asyncio.gather(*calls) == ["done"] * 30


async def test_recovery_that_could_not_read_is_tried_again(memory: Place) -> None:
    app = await memory.open(Account)
    tried: list[list[int]] = []

    async def recover(shards: list[int]) -> None:
        tried.append(shards)
        if len(tried) == 1:
            raise OSError("the documents are away")

    app.host.placement.on_gained = recover
    app.host.placement.epochs.pop(3)
    await eventually(lambda: len(tried) == 2)
    assert tried == [[3], [3]]


class Relay(Actor[None]):
    async def ask(self, target: str) -> int:
        GATES.append(asyncio.Event())
        await GATES[-1].wait()
        return await self.ctx.actor(Account, target).deposit(1)


GATES: list[asyncio.Event] = []


async def test_a_turn_under_way_gets_its_answers_while_its_shards_leave(memory: Place) -> None:
    """The next owner waits for the turn, so what the turn waits for can't wait for the next owner."""
    GATES.clear()
    one = await memory.open(Account, Relay, options={"drain_seconds": 20.0})
    calls = [asyncio.ensure_future(one.actor(Relay, str(n)).ask(f"t{n}")) for n in range(24)]
    await eventually(lambda: len(GATES) == 24)
    await memory.open(Account, Relay, options={"drain_seconds": 20.0})
    await eventually(lambda: one.host.placement._leaving)
    for gate in GATES:
        gate.set()
    assert await asyncio.wait_for(asyncio.gather(*calls), 10) == [1] * 24


async def test_a_busy_actor_is_handed_over_after_its_turn_and_not_after_its_mailbox(memory: Place) -> None:
    one = await memory.open(Account, options={"drain_seconds": 60.0})
    done = asyncio.Event()
    counts = [0] * 16

    async def caller(n: int) -> None:
        while not done.is_set():
            counts[n] += 1
            assert await one.actor(Account, f"k{n}").deposit(1) == counts[n]

    callers = [asyncio.ensure_future(caller(n)) for n in range(16)]
    two = await memory.open(Account)
    await asyncio.wait_for(settled(one, two), 20)
    done.set()
    await asyncio.gather(*callers)


async def test_a_host_says_whose_clock_is_ahead(memory: Place, caplog: pytest.LogCaptureFixture) -> None:
    await memory.open(Account)
    fast = ManualClock()
    fast.advance(4.0)
    two = memory.make(Account)
    inner = two.instances["coordination"]
    assert isinstance(inner, InMemoryCoordinationAdapter)
    inner._clock = fast
    await two.__aenter__()
    memory.apps.append(two)
    name = two.host.placement.member.id
    text = f"the clock of {name} is at least"
    await eventually(lambda: any(text in record.getMessage() for record in caplog.records), "the warning")
