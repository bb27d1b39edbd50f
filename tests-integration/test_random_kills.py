"""A host that is killed again and again under load: what was acknowledged happened, everything happened once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from support.bank import Operation, database_url, make_app, perform
from support.process import PATIENCE, Worker, eventually
from support.proof import Journal

from loom import Client

pytestmark = pytest.mark.crash

KILLS = 15
CLIENTS = 6
ACCOUNTS = [f"account-{n}" for n in range(5)]


async def test_a_host_killed_at_random_moments_under_load(tmp_path: Path) -> None:
    file, chance = tmp_path / "bank.db", random.Random(20_240_611)
    acknowledged: list[Operation] = []
    stop = asyncio.Event()
    # A message that is unlucky many times over must not be taken for poison here.
    options = json.dumps({"crash_attempts": 1000, "snapshot_every": 20})
    async with make_app(database_url(file)).client() as client:
        load = [
            asyncio.ensure_future(keep_calling(client, number, random.Random(number), acknowledged, stop))
            for number in range(CLIENTS)
        ]
        for kill in range(KILLS):
            async with Worker.running("bank_host", database_url(file), BANK_OPTIONS=options, ready=False) as host:
                if kill % 5 == 4:  # in the middle of its start or of its recovery
                    await asyncio.sleep(chance.uniform(0.2, 0.7))
                else:
                    wanted = len(acknowledged) + chance.randint(1, 600)
                    async with asyncio.timeout(PATIENCE):
                        while len(acknowledged) < wanted:
                            await asyncio.sleep(0.001)
                await host.kill()
            everything_acknowledged_is_there(file, acknowledged)
        stop.set()
        async with Worker.running("bank_host", database_url(file), BANK_OPTIONS=options) as host:
            await asyncio.gather(*load)
            await eventually(lambda: Journal.of_file(file).unfinished(), "everything promised")
            await host.stop()
    everything_acknowledged_is_there(file, acknowledged)
    balances_follow_from(file, acknowledged)
    assert len(acknowledged) > KILLS * CLIENTS


async def keep_calling(
    client: Client, number: int, chance: random.Random, acknowledged: list[Operation], stop: asyncio.Event
) -> None:
    """Keyed deposits and payments, each repeated under its key until it is acknowledged."""
    count = 0
    while not stop.is_set():
        count += 1
        source, target = chance.sample(ACCOUNTS, 2)
        key, amount = f"{number}-{count}", chance.randint(1, 100)
        if chance.random() < 0.5:
            operation = Operation(key, "deposit", source, (amount,))
        else:
            operation = Operation(key, "pay", source, (target, amount))
        await perform(client, operation)
        acknowledged.append(operation)


def everything_acknowledged_is_there(file: Path, acknowledged: list[Operation]) -> None:
    """Read the dead process's file."""
    journal = Journal.of_file(file)
    journal.prove()
    committed = {account: journal.keys(account) for account in ACCOUNTS}
    lost = [o for o in acknowledged if o.key not in committed[o.account]]
    assert not lost, f"acknowledged and lost: {lost}"


def balances_follow_from(file: Path, acknowledged: list[Operation]) -> None:
    """Each account holds exactly what the acknowledged operations make of it, so no money was made or lost."""
    journal = Journal.of_file(file)
    journal.settled()
    expected: Counter[str] = Counter(dict.fromkeys(ACCOUNTS, 0))
    deposited = 0
    for operation in acknowledged:
        if operation.method == "deposit":
            expected[operation.account] += operation.arguments[0]
            deposited += operation.arguments[0]
        else:
            target, amount = operation.arguments
            expected[operation.account] -= amount
            expected[target] += amount
    assert {account: journal.balance(account) for account in ACCOUNTS} == dict(expected)
    assert sum(journal.balance(account) for account in ACCOUNTS) == deposited
