"""Runs that are stopped in the middle of each kind of step and go on with the same stores, in every configuration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bank import Account, patiently
from support.configurations import CONFIGURATIONS, HYBRIDS, Addresses, configured, ordered
from support.fleet import hosts
from support.journeys import GATED, KINDS, RefusedError, journey, ledger
from support.load import Load, carry_out_plan
from support.places import UrlPlace
from support.process import PATIENCE, eventually

from loom import Client
from loom.runtime.entries import RunFinished
from loom_cosmos.testing import CosmosServer
from loom_redis.proxy import LossyProxy
from loom_redis.testing import RedisServer

pytestmark = pytest.mark.crash

STORMS: dict[str, tuple[str, int, dict[str, int]]] = {
    "429": ("throttle", 300, {"retryAfterMs": 20}),
    "429 beyond the patience": ("throttle", 60, {"retryAfterMs": 60_000}),
    "503": ("fail", 200, {"failStatus": 503}),
    "connections cut before": ("cutBefore", 60, {}),
    "connections cut after": ("cutAfter", 30, {}),
    "no answers": ("hang", 20, {}),
}
"""What Cosmos does to how many requests; each blows over when so many have met it."""

every_configuration = pytest.mark.parametrize("configuration", CONFIGURATIONS, indirect=True)


@pytest.mark.parametrize("how", ["killed", "stopped"])
@every_configuration
async def test_a_host_ends_in_the_middle_of_each_kind_of_step(
    configuration: UrlPlace, how: str, tmp_path: Path
) -> None:
    """One run for each kind, all at once; the host ends when each is in its middle, and another goes on.

    What had a result is not done again; what was in its middle is done again under its idempotency key.
    """
    place, folder = configuration, tmp_path
    place.options.update(drain_seconds=0.1)  # a clean stop does not wait for what does not end
    async with place.client() as client:
        runs = {kind: client.workflow(journey, kind) for kind in KINDS}
        async with place.host() as first:
            for kind, run in runs.items():
                if kind == "sleep":  # last, for it goes on by itself
                    await eventually(lambda: not_in_the_middle(client, folder), "each is in its middle")
                await patiently(lambda kind=kind, run=run: run.start(kind, str(folder)))
            await eventually(lambda: not_waiting(client, "sleep"), "one sleeps")
            await (first.kill() if how == "killed" else first.stop())
        ended = [event for events in (await place.journal()).streams.values() for event in events]
        assert not any(isinstance(event, RunFinished) for event in ended), "none had ended"
        before = {kind: ledger(folder, f"{kind}.before") for kind in KINDS}
        (folder / "go").touch()
        signal = asyncio.ensure_future(patiently(lambda: runs["signal"].signal("go", True)))  # while nobody hosts
        async with place.host() as second:
            for kind, run in runs.items():
                if kind == "compensation":
                    with pytest.raises(RefusedError):
                        await run.result(timeout=60)
                else:
                    assert await run.result(timeout=60) == kind
            await signal
            await balances_are_right(client, place)
            await second.stop()
    for kind in KINDS:
        assert ledger(folder, f"{kind}.before") == before[kind], f"{kind}: a step with a result has run again"
        assert len(before[kind]) == 1
        assert len(ledger(folder, f"{kind}.after")) == (kind != "compensation")
    for kind in set(GATED) - {"call"}:
        keys = ledger(folder, kind)
        assert len(keys) == 2, f"{kind} was in its middle, and has run {len(keys)} times"
        assert len(set(keys)) == 1, f"{kind} has run under {keys}"
    assert len(ledger(folder, "gather.done")) == 1, "the other branch had its result"
    assert len(ledger(folder, "retry.failed")) == 1
    (await place.journal()).settled()


@pytest.mark.parametrize("name", HYBRIDS)
async def test_one_store_fails_while_the_other_works(
    name: str, addresses: Callable[..., Addresses], cosmos_server: CosmosServer, tmp_path: Path
) -> None:
    """Cosmos throttles, is unavailable, cuts connections, never answers, is slow; Redis is killed; hosts stay as they
    are. Each call is repeated under its key while its outcome is unknown, and happens once; nothing needs a hand.
    """
    with RedisServer(tmp_path / "redis", appendfsync="always") as redis:
        async with LossyProxy(cosmos_server.port) as proxy:
            hasty = addresses(name, redis=redis, cosmos_port=proxy.port, cosmos_options={"timeout": 1, "retry_for": 1})
            patient = addresses(name, redis=redis, cosmos_options={"retry_for": PATIENCE})
            async with (
                configured(name, tmp_path, hasty, read_at=patient, crash_attempts=1000) as place,
                hosts(place, 2) as workers,
                Load(place, callers=2, accounts=6, careful=True, ordered=ordered(place)) as load,
            ):
                planned = asyncio.ensure_future(carry_out_plan(place))
                for storm, (kind, count, settings) in STORMS.items():
                    await load.more(30)
                    cosmos_server.control(**{kind: count}, **settings)
                    began, errors = time.monotonic(), len(load.errors)
                    await eventually(lambda kind=kind: cosmos_server.left()[kind], "it blows over")
                    await load.more(2, load.accounts)
                    print(f"{storm}: {time.monotonic() - began:.1f} s, {len(load.errors) - errors} calls repeated")
                proxy.delay = 0.2
                await load.more(30)
                proxy.delay = 0.0
                for _ in range(2):
                    await load.more(30)
                    redis.kill()
                    redis.start()
                    await load.more(2, load.accounts)
                await planned
                await load.finish()
                for worker in workers:
                    await worker.stop()
            print(f"{load.count} calls, {len(load.errors)} repeated, the slowest took {load.slowest:.2f} s")


async def not_in_the_middle(client: Client, folder: Path) -> list[str]:
    missing = [kind for kind in GATED if not (folder / kind).exists()]
    if (await patiently(client.workflow(journey, "gather").status)).steps_done < 2:
        missing.append("gather.done")
    return missing + await not_waiting(client, "signal")


async def not_waiting(client: Client, kind: str) -> list[str]:
    """Empty when the run of that kind has recorded its first step and waits for the next thing."""
    status = await patiently(client.workflow(journey, kind).status)
    return [] if status.steps_done and status.waiting_for else [kind]


async def balances_are_right(client: Client, place: UrlPlace) -> None:
    """Each call and each message has taken effect once, and the compensation of the failed run too."""
    await eventually(place.unfinished, "everything promised")
    ended = len(KINDS)  # the failed one not, but the child
    wanted = {"called": 1, "compensated": 1, "compensation": 0, "sink": ended}
    wanted |= {kind: 1 for kind in KINDS if kind != "compensation"}
    for account, balance in wanted.items():
        assert await client.actor(Account, account).balance() == balance, account
        assert await client.actor(Account, account).turns() == balance, account
