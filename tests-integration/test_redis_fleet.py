"""A fleet on a real redis-server: calls, messages and runs across hosts, in order; hosts that join and leave."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from support.bank import Account, AccountState, Operation, perform, transfer
from support.fleet import SHARDS, account_of, hosts, leases, owned, pid_of, shared_out
from support.load import Load
from support.places import UrlPlace
from support.process import Worker, eventually
from support.proof import Journal

from loom import Client
from loom.codec import decode
from loom.runtime.messages import run_stream, shard_of

pytestmark = pytest.mark.crash


async def test_actors_call_one_another_across_hosts_in_both_directions(redis_place: UrlPlace) -> None:
    async with hosts(redis_place, 2) as (one, two), redis_place.client() as client:
        here, there = await accounts(redis_place, one, 20), await accounts(redis_place, two, 20)
        forth = [client.actor(Account, a).lend(b, 7) for a, b in zip(here[:10], there[:10], strict=True)]
        back = [client.actor(Account, b).lend(a, 3) for a, b in zip(here[10:], there[10:], strict=True)]
        assert await asyncio.gather(*forth, *back) == [7] * 10 + [3] * 10
        assert await client.actor(Account, here[0]).balance() == -7
        assert await client.actor(Account, there[10]).balance() == -3
        await eventually(redis_place.unfinished, "everything promised")
    (await redis_place.journal()).settled()


async def test_hosts_that_call_from_within_reach_one_another(redis_place: UrlPlace) -> None:
    """Each carries out a plan, whose accounts and runs lie with either; no call may fail."""
    async with redis_place.host(BANK_PLAN="3", BANK_STRICT="1") as one, redis_place.host() as two:
        await one.event("done")
        assert not one.reported("failed")
        await eventually(lambda: shared_out(redis_place.url, [one, two]), "both own shards")
        await eventually(redis_place.unfinished, "everything promised")
    (await redis_place.journal()).settled()


async def test_runs_have_children_and_signals_across_hosts(redis_place: UrlPlace) -> None:
    async with hosts(redis_place, 2) as (one, two), redis_place.client() as client:
        source, target = await account_of(redis_place.url, one), await account_of(redis_place.url, two)
        await client.actor(Account, source).deposit(1000)
        shards = await owned(redis_place.url)
        names = [f"run-{n}" for n in range(400)]
        apart = [
            [
                name
                for name in names
                if shard_of(run_stream("transfer", name), SHARDS) in shards[parent.pid]
                and shard_of(run_stream("audit", f"{name}-audit"), SHARDS) in shards[child.pid]
            ][:5]
            for parent, child in ((one, two), (two, one))
        ]
        assert all(len(found) == 5 for found in apart), "parents with one host, children with the other"
        runs = [client.workflow(transfer, name) for found in apart for name in found]
        await asyncio.gather(*(run.start(source, target, 10) for run in runs))
        await asyncio.gather(*(run.signal("approved", True) for run in runs))
        results = await asyncio.gather(*(run.result(timeout=30) for run in runs))
        assert results == [f"{source} -> {target}: 10"] * 10
        await eventually(redis_place.unfinished, "everything promised")
        journal = await redis_place.journal()
        journal.settled()
        assert (journal.balance(source), journal.balance(target), journal.balance("bank")) == (900, 100, 10)


async def test_order_is_kept_per_caller_and_from_actor_to_actor_while_hosts_die(redis_place: UrlPlace) -> None:
    """Three hundred payments at once, each of another amount; the payer's host dies, then the receiver's."""
    redis_place.options.update(crash_attempts=1000)
    async with hosts(redis_place, 3) as workers, redis_place.client() as client:
        payer = await account_of(redis_place.url, workers[0], "payer")
        receiver = await account_of(redis_place.url, workers[1], "receiver")
        calls = [asyncio.ensure_future(pay(client, payer, receiver, n)) for n in range(1, 301)]
        for account, worker in ((payer, workers[0]), (receiver, workers[1])):
            await eventually(lambda account=account: has_turns(redis_place, account, 20), "some have run")
            await worker.kill()
        answers = await asyncio.gather(*calls)
        assert answers == [-n * (n + 1) // 2 for n in range(1, 301)], "each answer follows the one before it"
        await eventually(redis_place.unfinished, "everything promised")
        journal = await redis_place.journal()
        journal.settled()
        journal.in_order(payer)
        assert amounts(journal, receiver) == list(range(1, 301)), "messages arrive in the order of their turns"


async def test_a_host_joins_ten_thousand_actors_and_leaves_again_without_a_failed_call(redis_place: UrlPlace) -> None:
    redis_place.options.update(shards=256)
    names = [f"actor-{n}" for n in range(10_000)]
    async with redis_place.host() as one, redis_place.host() as two, redis_place.client() as client:
        await eventually(lambda: shared_out(redis_place.url, [one, two], 256), "both own shards")
        began = time.monotonic()
        assert set(await everybody(client, names)) == {1}
        filled = time.monotonic() - began
        before = await leases(redis_place.url)
        async with Load(redis_place) as load:
            await load.more(50)
            began = time.monotonic()
            async with redis_place.host() as three:
                await eventually(lambda: shared_out(redis_place.url, [one, two, three], 256), "the third has joined")
                await eventually(lambda: still(redis_place), "no shard moves any more")
                joined = time.monotonic() - began
                await load.more(2, load.accounts)
                after = await leases(redis_place.url)
                moved = {shard for shard, lease in after.items() if pid_of(lease.owner) == three.pid}
                assert 256 / 3 * 0.6 < len(moved) < 256 / 3 * 1.4, "about its share"
                stayed = {shard: lease for shard, lease in after.items() if shard not in moved}
                assert stayed == {shard: before[shard] for shard in stayed}, "only its share moves"
                assert set(await everybody(client, names)) == {2}
                began = time.monotonic()
                await three.stop()
                left = time.monotonic() - began
            await eventually(lambda: shared_out(redis_place.url, [one, two], 256), "the others have its shards")
            await load.more(2, load.accounts)
            assert set(await everybody(client, names[::5])) == {3}
            await load.finish()
            print(
                f"\n10,000 actors filled in {filled:.1f} s; joined and settled {joined:.1f} s after its start, "
                f"{len(moved)} of 256 shards moved; drained in {left:.1f} s; slowest call {load.slowest:.2f} s"
            )


async def everybody(client: Client, names: list[str]) -> list[int]:
    """A deposit for each, up to a thousand at a time. Any that fails fails the test."""
    found: list[int] = []
    for start in range(0, len(names), 1000):
        found += await asyncio.gather(*(client.actor(Account, name).deposit(1) for name in names[start : start + 1000]))
    return found


async def still(place: UrlPlace) -> str:
    before = await leases(place.url)
    await asyncio.sleep(1.0)
    return "" if before == await leases(place.url) else "shards move"


async def accounts(place: UrlPlace, worker: Worker, count: int) -> list[str]:
    return [await account_of(place.url, worker, f"{worker.pid}-{n}") for n in range(count)]


async def pay(client: Client, payer: str, receiver: str, n: int) -> object:
    return await perform(client, Operation(f"client:{n}", "pay", payer, (receiver, n)))


async def has_turns(place: UrlPlace, account: str, count: int) -> str:
    found = len((await place.journal()).turns(account))
    return "" if found >= count else f"{found} turns"


def amounts(journal: Journal, account: str) -> list[int]:
    balances = [0, *(decode(t.state, AccountState).balance for t in journal.turns(account) if t.state is not None)]
    return [after - before for before, after in pairwise(balances)]
