"""Hosts that serve different types: each request finds a host that has its code, in order, once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from loom import Actor, Context, Loom, workflow
from loom.cli.tree import build
from loom.errors import UnknownActorError
from loom.runtime.messages import shard_of, type_of

from .bank import Account
from .place import SHARDS, Place, dead_letters, eventually, journal, queue

pytestmark = pytest.mark.slow


class Ledger(Actor[list[int]]):
    """Lives where the accounts do not."""

    def initial_state(self) -> list[int]:
        return []

    async def write(self, amount: int) -> int:
        self.state.append(amount)
        return len(self.state)

    async def read(self) -> list[int]:
        return self.state

    async def book(self, account: str, amount: int) -> int:
        self.state.append(amount)
        return await self.ctx.actor(Account, account).deposit(amount)


class Teller(Actor[int]):
    """Sends to ledgers, from the host of the accounts."""

    def initial_state(self) -> int:
        return 0

    async def post(self, ledger: str, first: int, count: int) -> None:
        for amount in range(first, first + count):
            self.ctx.send(self.ctx.actor(Ledger, ledger).write, amount)

    async def remind(self, ledger: str, amount: int) -> int:
        return await self.ctx.actor(Ledger, ledger).write(amount)


@workflow
async def saving(ctx: Context, account: str, amount: int) -> int:
    return await ctx.actor(Account, account).deposit(amount)


@workflow
async def booking(ctx: Context, ledger: str, amount: int) -> int:
    entries = await ctx.actor(Ledger, ledger).write(amount)
    return entries + await ctx.workflow(saving, f"of-{ctx.run_id}").run(ledger, amount)


KEYS = [f"k{n}" for n in range(2 * SHARDS)]


async def balanced(*apps: Loom) -> None:
    """Until each type of each shard is with exactly one host that serves it."""
    names = {name for app in apps for name in app.host.placement.member.serves}
    streams = [f"{name}/{key}" for key in KEYS for name in names]

    def right() -> bool:
        return all(len(owners(stream, *apps)) == 1 for stream in streams)

    await eventually(right, "the balance")


def owners(stream: str, *apps: Loom) -> list[Loom]:
    return [app for app in apps if app.host.has_code(stream) and app.host.holds(stream)]


def apart(*apps: Loom) -> set[tuple[int, str]]:
    return {unit for app in apps for unit in app.host.placement.types.apart | set(app.host.placement.types.leases)}


async def test_hosts_of_disjoint_types_call_each_others_actors(place: Place) -> None:
    bank, books = await place.open(Account, Teller), await place.open(Ledger)
    await balanced(bank, books)
    for key in KEYS:
        assert await bank.actor(Ledger, key).write(1) == 1
        assert await books.actor(Account, key).deposit(2) == 2
        assert await books.actor(Ledger, key).book(key, 5) == 7
    assert not [stream for stream in books.host.cells if stream.startswith("actor/Account")]
    assert not [stream for stream in bank.host.cells if stream.startswith("actor/Ledger")]


async def test_hosts_of_disjoint_types_start_each_others_workflows(place: Place) -> None:
    bank = await place.open(Account, workflows=[saving])
    books = await place.open(Ledger, workflows=[booking])
    for n in range(SHARDS):
        run = await bank.workflow(booking, f"b{n}").start(f"l{n}", 10)
        assert await run.result(timeout=20) == 11
        assert await (await books.workflow(saving, f"s{n}").start(f"l{n}", 5)).result(timeout=20) == 15
        assert (await books.workflow(booking, f"b{n}").status()).status == "completed"


async def test_a_client_without_code_reaches_both(place: Place) -> None:
    await place.open(Account)
    await place.open(Ledger)
    async with place.make().client() as client:
        for key in KEYS[:SHARDS]:
            assert await client.call("Account", key, "deposit", 1) == 1
            assert await client.call("Ledger", key, "write", 1) == 1


async def test_sends_to_another_hosts_actor_keep_their_order(place: Place) -> None:
    bank, books = await place.open(Teller), await place.open(Ledger)
    for first in range(0, 60, 20):
        await asyncio.gather(*(bank.actor(Teller, key).post(key, first, 20) for key in KEYS))

    async def complete() -> bool:
        return all([len(await books.actor(Ledger, key).read()) == 60 for key in KEYS])

    await eventually(complete)
    for key in KEYS:
        assert await books.actor(Ledger, key).read() == list(range(60))


async def test_a_rolling_deploy_that_brings_a_type_more(place: Place) -> None:
    """Two old hosts are replaced by two new ones. Nothing is lost, doubled or turned round on the way."""
    old = [await place.open(Account, Teller), await place.open(Account, Teller)]
    for key in KEYS:
        await old[0].actor(Teller, key).post(key, 0, 10)  # nobody can run these yet
    new = [await place.open(Account, Teller, Ledger)]
    await balanced(*old, *new)
    assert apart(*old, *new)
    for n, leaving in enumerate(old):
        await asyncio.gather(*(leaving.actor(Teller, key).post(key, 10 * (n + 1), 10) for key in KEYS))
        new.append(await place.open(Account, Teller, Ledger))
        await place.close(leaving)
        for key in KEYS:
            await new[n].actor(Account, key).deposit(1)
    for key in KEYS:
        await new[-1].actor(Teller, key).post(key, 30, 10)

    async def complete() -> bool:
        return all([len(await new[0].actor(Ledger, key).read()) >= 40 for key in KEYS])

    await eventually(complete)
    for key in KEYS:
        assert await new[1].actor(Ledger, key).read() == list(range(40))
        assert await new[1].actor(Account, key).balance() == 2
    # Now that all hosts serve the same, nothing is set apart any more, and nothing goes a longer way.
    await eventually(lambda: not apart(*new), "the reunion")
    assert await new[0].actor(Ledger, KEYS[0]).write(-1) == 41
    head = await journal(new[0]).head(f"actor/Ledger/{KEYS[0]}")
    shard = shard_of(f"actor/Ledger/{KEYS[0]}", SHARDS)
    assert head.fence == max(app.host.placement.epochs.get(shard, 0) for app in new)


async def test_the_only_host_of_a_type_dies_and_returns(place: Place) -> None:
    bank, books = await place.open(Teller), await place.open(Ledger)
    for key in KEYS:
        assert await books.actor(Ledger, key).write(0) == 1
    await place.crash(books)
    await asyncio.gather(*(bank.actor(Teller, key).post(key, 1, 5) for key in KEYS))
    asked = [asyncio.ensure_future(bank.actor(Ledger, f"new-{key}").write(1)) for key in KEYS]
    await eventually(lambda: len(bank.host.placement.epochs) == SHARDS)

    async def parked() -> bool:
        depths = [await queue(bank).depth(name) for name in await queue(bank).queues() if name.endswith("actor/Ledger")]
        return sum(depth.ready for depth in depths) >= 6 * len(KEYS)

    await eventually(parked, "what waits for the type")
    books = await place.open(Ledger)
    assert await asyncio.wait_for(asyncio.gather(*asked), 20) == [1] * len(KEYS)

    async def complete() -> bool:
        return all([len(await books.actor(Ledger, key).read()) >= 6 for key in KEYS])

    await eventually(complete)
    for key in KEYS:
        assert await books.actor(Ledger, key).read() == list(range(6))


async def test_unfinished_runs_go_on_where_their_code_is(place: Place) -> None:
    """What is pending in a shard is found by whoever has the type, not only by whoever owns the shard."""

    @workflow
    async def patient(ctx: Context) -> int:
        return int(await ctx.wait_signal("go", int)) + int(await ctx.step(lambda: 1, name="one")())

    bank, books = await place.open(Account), await place.open(Ledger, workflows=[patient])
    runs = [await bank.workflow(patient, f"p{n}").start() for n in range(SHARDS)]
    await place.crash(books)
    for n, run in enumerate(runs):
        signal = asyncio.ensure_future(run.signal("go", n))
        await asyncio.sleep(0)
        signal.add_done_callback(lambda _: None)
    await place.open(Ledger, workflows=[patient])
    for n, run in enumerate(runs):
        assert await run.result(timeout=20) == n + 1


async def test_status_says_what_waits_for_code(sqlite: Place) -> None:
    bank = await sqlite.open(Teller)
    await bank.actor(Teller, "a").post("x", 0, 3)

    async def waiting() -> Any:
        result = await asyncio.to_thread(CliRunner().invoke, build(), ["status", "--url", sqlite.url, "--json"])
        return json.loads(result.stdout)["queues"]["unserved"]

    async def told() -> bool:
        return await waiting() == {"actor/Ledger": 3}

    await eventually(told)
    shown = await asyncio.to_thread(CliRunner().invoke, build(), ["status", "--url", sqlite.url])
    assert "3 requests wait for a host that serves actor type Ledger; start one with: loom run" in shown.stdout
    books = await sqlite.open(Ledger)

    async def served() -> bool:
        return await books.actor(Ledger, "x").read() == [0, 1, 2]

    await eventually(served)
    assert await waiting() == {}


async def test_after_the_window_the_dead_letter_names_type_and_remedy(place: Place) -> None:
    bank = await place.open(Teller, options={"unserved_window": 0.2, "idle_seconds": 0.05})
    await bank.actor(Teller, "a").post("x", 0, 3)

    async def dead() -> list[Any]:
        names = [name for name in await queue(bank).queues() if name.endswith("actor/Ledger")]
        return [letter for name in names for letter in await queue(bank).dead_letters(name)]

    await eventually(lambda: _many(dead, 3), "the dead letters")
    for letter in await dead():
        assert "no host serves actor type 'Ledger'" in letter.reason
        assert "Start a host that has it" in letter.reason
        assert "loom dlq redrive" in letter.reason


async def _many(found: Any, count: int) -> bool:
    return len(await found()) >= count


async def test_a_type_that_nobody_has_ever_served_is_told_at_once(place: Place) -> None:
    bank = await place.open(Account)
    with pytest.raises(UnknownActorError, match="no actor type 'Ledger' here"):
        await bank.actor(Ledger, "a").write(1)
    async with place.make().client() as client:
        with pytest.raises(UnknownActorError, match="this host serves: Account"):
            await client.call("Ledger", "a", "write", 1)


async def test_a_call_from_a_workflow_fails_after_the_window(memory: Place) -> None:
    @workflow
    async def hopeful(ctx: Context) -> int:
        return await ctx.actor(Ledger, "a").write(1)

    options = {"unserved_window": 0.2, "idle_seconds": 0.05, "call_timeout": 5.0}
    app = await memory.open(Account, workflows=[hopeful], options=options)
    run = await app.workflow(hopeful, "h").start()
    with pytest.raises(UnknownActorError, match="no host serves actor type 'Ledger'; the request waited"):
        await run.result(timeout=20)


async def test_without_types_apart_requests_wait_where_they_are_and_are_given_up(place: Place) -> None:
    """A coordination that has only shards: what it can't route is tried now and then, and not for ever."""

    async def nothing(member_id: str, units: Any) -> list[Any]:
        return []

    bank = await place.open(Teller, options={"unserved_window": 1.5})
    bank.host.coordination.set_apart = nothing  # type: ignore[method-assign]
    tries = 0
    retry = bank.host.inbox.retry

    async def counted(delivery: Any, delay: float) -> None:
        nonlocal tries
        tries += 1
        await retry(delivery, delay)

    bank.host.inbox.retry = counted  # type: ignore[method-assign]
    await bank.actor(Teller, "a").post("x", 0, 1)
    found = await eventually(lambda: dead_letters(bank))
    assert "no host serves actor type 'Ledger'" in found[0].reason
    assert 1 <= tries <= 3


async def test_hosts_that_serve_the_same_set_nothing_apart(place: Place) -> None:
    one, two = await place.open(Account, Ledger), await place.open(Ledger, Account)
    await balanced(one, two)
    for key in KEYS:
        assert await one.actor(Ledger, key).write(1) == 1
        assert await two.actor(Account, key).deposit(1) == 1
    assert not apart(one, two)
    assert not [lease for lease in (await one.host.coordination.owners()).values() if lease.types]


async def test_what_waits_for_code_is_not_given_up_by_a_host_that_has_just_come(memory: Place) -> None:
    clock = memory.manual()
    bank = await memory.open(Teller, options={"unserved_window": 60.0})
    await bank.actor(Teller, "a").post("x", 0, 1)

    async def parked() -> int:
        names = [name for name in await queue(bank).queues() if name.endswith("actor/Ledger")]
        return sum([(await queue(bank).depth(name)).ready for name in names])

    await eventually(parked)
    await memory.crash(bank)
    clock.advance(7200.0)
    bank = await memory.open(Teller, options={"unserved_window": 60.0})
    await bank.host.relay.sweep()
    assert await parked() == 1
    clock.advance(61.0)
    await eventually(lambda: _none(bank, parked))


async def _none(app: Loom, parked: Any) -> bool:
    await app.host.relay.sweep()
    return not await parked()


def test_the_type_of_a_stream() -> None:
    assert type_of("actor/Account/a/b/c") == "actor/Account"
    assert type_of("run/transfer/t-1") == "run/transfer"
