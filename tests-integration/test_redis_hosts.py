"""Hosts on a real redis-server that are killed, paused, replaced and stopped under load."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.bank import Account, Operation, perform
from support.fleet import Keeper, account_of, hosts, shared_out
from support.load import Load, carry_out_plan
from support.places import UrlPlace
from support.process import eventually
from support.shell import loom

from loom import Client

pytestmark = pytest.mark.crash

UNLUCKY = {"crash_attempts": 1000}
"""For messages that are killed under many times over and must not be taken for poison."""


@pytest.mark.slow
async def test_hosts_killed_in_a_loop_for_a_minute(redis_place: UrlPlace) -> None:
    """Three hosts; at random moments one of them gets SIGKILL and is started again, once in a while two at once.

    No call may fail, for it waits in the queue; each happens once, and those of a caller in its order. Beside them a
    plan is carried out, with runs, children, signals, steps, reminders and messages.
    """
    redis_place.options.update(UNLUCKY, snapshot_every=50)
    chance, kills = random.Random(20_261_124), 0
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(redis_place.host()) for _ in range(3)]
        load = await stack.enter_async_context(Load(redis_place, callers=3, accounts=8, window=3))
        planned = asyncio.ensure_future(carry_out_plan(redis_place, rounds=8))
        await load.more(100)
        until = time.monotonic() + 61
        while time.monotonic() < until:
            for n in chance.sample(range(3), chance.choice([1, 1, 1, 2])):
                await running[n].kill()
                kills += 1
                running[n] = await stack.enter_async_context(redis_place.host(ready=False))
            if chance.random() < 0.7:  # else the next one is killed while shards are still on their way
                await load.more(chance.randint(1, 150))
            await asyncio.sleep(chance.uniform(0, 1.5))
        await planned
        await load.finish()
        for worker in running:
            await worker.event("ready")
            await worker.stop()
    assert kills >= 15
    (await redis_place.journal()).settled()
    print(f"\n{kills} kills, {load.count} calls, the slowest took {load.slowest:.2f} s")


async def test_takeover_takes_the_lease_time_and_a_second(redis_place: UrlPlace) -> None:
    """Nobody asks: then a client does, all the time; how long until an answer comes from the other host."""
    async with hosts(redis_place, 2) as (one, two), redis_place.client() as client:
        account = await account_of(redis_place.url, two)
        await client.actor(Account, account).deposit(1)
        began = time.monotonic()
        await two.kill()
        assert await client.actor(Account, account).deposit(1) == 2
        answered = time.monotonic() - began
        await eventually(lambda: shared_out(redis_place.url, [one]), "the survivor owns everything")
        print(f"\nanswered {answered:.2f} s after SIGKILL; lease time + 1 s is {lease_time(redis_place) + 1:.2f} s")


async def test_a_killed_host_leaves_reminders_and_runs_to_the_other(redis_place: UrlPlace) -> None:
    """With nobody who asks for them."""
    async with hosts(redis_place, 2) as (_, two), redis_place.client() as client:
        account = await account_of(redis_place.url, two)
        await perform(client, Operation("first", "deposit", account, (100,)))
        await perform(client, Operation("later", "save_later", account, ("soon", 7)))
        await two.kill()
        await eventually(redis_place.unfinished, "the reminder fires")
        journal = await redis_place.journal()
        journal.settled()
        assert journal.balance(account) == 107


async def test_a_paused_host_that_was_replaced_doubles_nothing_and_reads_nothing_stale(redis_place: UrlPlace) -> None:
    async with hosts(redis_place, 2) as (one, two), redis_place.client() as client, Load(redis_place) as load:
        account = await account_of(redis_place.url, two)
        await perform(client, Operation("before", "deposit", account, (1000,)))
        await two.say(f"read {account}")
        await two.event("read", count=3)
        await load.more(100)
        two.signal(signal.SIGSTOP)  # in the middle of whatever: turns, appends, a script under way
        acknowledged = await perform(client, Operation("meanwhile", "deposit", account, (1000,)))
        await eventually(lambda: shared_out(redis_place.url, [one]), "the paused host is replaced")
        await load.more(2, load.accounts)
        seen = len(two.reported("read"))
        two.signal(signal.SIGCONT)
        # The first read may have begun before the pause; every later one began after the deposit was acknowledged.
        await two.event("read", count=seen + 20)
        late = [event["balance"] for event in two.reported("read")[seen + 1 :]]
        assert min(late) >= acknowledged, f"a stale balance was reported: {min(late)} after {acknowledged}"
        await eventually(lambda: shared_out(redis_place.url, [one, two]), "the woken host has joined again")
        await load.more(2, load.accounts)
        await load.finish()
        assert (await redis_place.journal()).balance(account) == 2000


async def test_a_turn_that_slept_through_the_loss_of_its_shard_is_refused(
    redis_place: UrlPlace, tmp_path: Path
) -> None:
    """Its host is paused in the middle of the turn, the new owner writes, and then the turn wants to commit."""
    started, go = tmp_path / "started", tmp_path / "go"
    async with hosts(redis_place, 2) as (one, two), redis_place.client() as client:
        account = await account_of(redis_place.url, two)
        await client.actor(Account, account).deposit(1)
        slow = asyncio.ensure_future(client.actor(Account, account).slowly(10, str(started), str(go)))
        await eventually(lambda: not started.exists(), "the turn has begun")
        two.signal(signal.SIGSTOP)
        started.unlink()
        # The request comes to the new owner, who begins it too: it is the same request, to be committed once.
        await eventually(lambda: not started.exists(), "the turn has begun at the new owner")
        await eventually(lambda: shared_out(redis_place.url, [one]), "the paused host is replaced")
        go.touch()
        assert await slow == 11
        late = asyncio.ensure_future(client.actor(Account, account).deposit(100))
        assert await late == 111
        two.signal(signal.SIGCONT)  # its turn finds the file, and tries to commit
        await eventually(lambda: shared_out(redis_place.url, [one, two]), "the woken host has joined again")
        await eventually(redis_place.unfinished, "everything promised")
        journal = await redis_place.journal()
        journal.settled()
        assert journal.balance(account) == 111
        assert len(journal.turns(account)) == 3
        assert await client.actor(Account, account).balance() == 111
        print(f"\nthe woken host said: {[line for line in two.errors.splitlines() if 'loom' in line][:5]}")


async def test_poison_goes_to_the_dead_letters_after_running_alone_and_can_be_redriven(
    redis_place: UrlPlace, tmp_path: Path
) -> None:
    redis_place.options.update(crash_attempts=2)
    fuse = tmp_path / "fuse"
    fuse.touch()
    async with Keeper(redis_place, 2) as keeper, redis_place.client() as client:
        good = asyncio.ensure_future(deposits(client, 15))
        bad = asyncio.ensure_future(client.actor(Account, "bomb").explode(str(fuse)))
        await eventually(lambda: dead_letters(redis_place), "the poison is found")
        assert await good == list(range(1, 16)), "others go on"
        assert keeper.deaths == 3, "one beside others, two alone"
        [letter] = (await redis_place.journal()).dead
        assert "poison: 2 attempts alone" in letter
        bad.cancel()
        assert await client.actor(Account, "bomb").deposit(1) == 1, "its actor goes on"
        fuse.unlink()
        shown = json.loads(await loom("dlq", "list", "--json", url=redis_place.url))["dead"]
        assert [(dead["stream"], dead["method"]) for dead in shown] == [("actor/Account/bomb", "explode")]
        await loom("dlq", "redrive", shown[0]["queue"], "--id", shown[0]["id"], url=redis_place.url)
        await eventually(lambda: turns_of(client, "bomb", 2), "the redriven request has run")
        assert not (await redis_place.journal()).dead
        await eventually(redis_place.unfinished, "everything promised")
    (await redis_place.journal()).settled()


async def deposits(client: Client, count: int) -> list[int]:
    found = []
    for n in range(count):
        found.append(await perform(client, Operation(f"good-{n}", "deposit", "good", (1,))))
        await asyncio.sleep(0.2)
    return found


async def dead_letters(place: UrlPlace) -> str:
    return "" if (await place.journal()).dead else "none yet"


async def turns_of(client: Client, account: str, wanted: int) -> str:
    turns = await client.actor(Account, account).turns()
    return "" if turns >= wanted else f"{turns} turns"


def lease_time(place: UrlPlace) -> float:
    return float(place.url.rpartition("member_ttl=")[2])
