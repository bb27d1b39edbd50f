"""SIGKILL at every named point of a turn and of a run: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from support.bank import Account, expected_balances, expected_turns, perform, plan
from support.configurations import HYBRIDS
from support.places import Place
from support.process import Worker, eventually

from loom import Client
from loom.runtime.crashpoints import CRASH_POINTS

pytestmark = pytest.mark.crash

ROUNDS = 5
OPERATIONS = {operation.key: operation for operation in plan(ROUNDS)}
NOT_WITHIN = {"turn.replied": "a call from within gets no reply message"}
"""Points that a call from within the host never passes. All others must be passed by both kinds of callers."""


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_killed_while_calls_come_from_within(point: str, nth: int, file_place: Place, tmp_path: Path) -> None:
    await killed_within(point, nth, file_place, tmp_path / "gateway")


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_killed_while_a_client_calls(point: str, nth: int, file_place: Place, tmp_path: Path) -> None:
    await killed_under_a_client(point, nth, file_place, tmp_path / "gateway")


@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_killed_on_redis_while_calls_come_from_within(point: str, redis_place: Place, tmp_path: Path) -> None:
    await killed_within(point, 2, redis_place, tmp_path / "gateway")


@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_killed_on_redis_while_a_client_calls(point: str, redis_place: Place, tmp_path: Path) -> None:
    await killed_under_a_client(point, 2, redis_place, tmp_path / "gateway")


@pytest.mark.parametrize("configuration", HYBRIDS, indirect=True)
@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_killed_in_a_hybrid_while_a_client_calls(point: str, configuration: Place, tmp_path: Path) -> None:
    await killed_under_a_client(point, 2, configuration, tmp_path / "gateway")


async def killed_within(point: str, nth: int, place: Place, gateway: Path) -> None:
    if point in NOT_WITHIN:
        pytest.skip(NOT_WITHIN[point])
    world = {"BANK_GATEWAY": str(gateway)}
    async with place.host(LOOM_CRASH_AT=f"{point}:{nth}", BANK_PLAN=str(ROUNDS), ready=False, **world) as first:
        await died_at(first, point)
        acknowledged = {event["key"]: event["result"] for event in first.reported("ack")}
    await in_the_journal(place, acknowledged)
    async with place.host(**world) as second:
        # First without anybody asking: what was promised comes true by itself.
        await eventually(place.unfinished, "recovery by itself")
        (await place.journal()).prove()
        async with place.client() as client:
            await repeat_everything(client, acknowledged)
            await balances_are_right(client, place)
        await second.stop()
    (await place.journal()).settled()
    steps_have_one_key(gateway)


async def killed_under_a_client(point: str, nth: int, place: Place, gateway: Path) -> None:
    world = {"BANK_GATEWAY": str(gateway)}
    acknowledged: dict[str, Any] = {}
    async with (
        place.host(LOOM_CRASH_AT=f"{point}:{nth}", ready=False, **world) as first,
        place.client() as client,
    ):
        calls = asyncio.ensure_future(carry_out(client, acknowledged))
        await died_at(first, point)
        await in_the_journal(place, acknowledged)
        async with place.host(**world) as second:
            await calls
            await repeat_everything(client, acknowledged)
            await balances_are_right(client, place)
            await second.stop()
    (await place.journal()).settled()
    steps_have_one_key(gateway)


async def carry_out(client: Client, acknowledged: dict[str, Any]) -> None:
    for operation in OPERATIONS.values():
        acknowledged[operation.key] = await perform(client, operation)


async def died_at(worker: Worker, point: str) -> None:
    """The worker was killed by its crash point, and did not come to the end of the plan first."""
    ending = asyncio.ensure_future(worker.ended())
    done = asyncio.ensure_future(worker.event("done"))
    await asyncio.wait([ending, done], return_when=asyncio.FIRST_COMPLETED)
    reached = not worker.reported("done")
    for task in (done, *([] if reached else [ending])):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not reached:
        pytest.fail(f"the plan never passes {point}: give it a scenario that does")
    assert await ending == -signal.SIGKILL, worker.errors


async def in_the_journal(place: Place, acknowledged: dict[str, Any]) -> None:
    """What was acknowledged is in the journal that the dead process left."""
    journal = await place.journal()
    for key in acknowledged:
        assert journal.holds(OPERATIONS[key]), f"{key} was acknowledged and is lost"


async def repeat_everything(client: Client, acknowledged: dict[str, Any]) -> None:
    """Every operation once more under its key: those acknowledged answer as they did, the others happen now."""
    for operation in OPERATIONS.values():
        result = await perform(client, operation)
        if operation.key in acknowledged:
            assert result == acknowledged[operation.key], operation


async def balances_are_right(client: Client, place: Place) -> None:
    """Each operation has happened once: the accounts and the journal agree with the plan."""
    await eventually(place.unfinished, "everything promised")
    journal = await place.journal()
    for account, balance in expected_balances(ROUNDS).items():
        assert await client.actor(Account, account).balance() == balance, account
        assert journal.balance(account) == balance, account
        assert await client.actor(Account, account).turns() == expected_turns(ROUNDS)[account], account


def steps_have_one_key(gateway: Path) -> None:
    """A step may have run twice around a crash, under one key: distinct keys are exactly the steps of the plan."""
    keys = {line.split()[0] for line in gateway.read_text().splitlines()}
    assert len(keys) == ROUNDS * 4
