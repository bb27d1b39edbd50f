"""SIGTERM during turns: what is under way ends well, the rest waits for the next host, nobody hears of an error."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from support.bank import Account, database_url, expected_balances, make_app, perform, plan
from support.process import Worker, eventually
from support.proof import Journal

pytestmark = pytest.mark.crash

SLOW = [f"slow-{n}" for n in range(4)]


async def test_turns_under_way_end_and_later_calls_wait_for_the_next_host(tmp_path: Path) -> None:
    file, go = tmp_path / "bank.db", tmp_path / "go"
    async with make_app(database_url(file)).client() as client:
        async with Worker.running("bank_host", database_url(file)) as first:
            under_way = [
                asyncio.ensure_future(client.actor(Account, name).slowly(5, str(tmp_path / name), str(go)))
                for name in SLOW
            ]
            await eventually(lambda: [n for n in SLOW if not (tmp_path / n).exists()], "every turn has begun")
            first.signal(signal.SIGTERM)
            await first.event("stopping")
            # Behind turns under way and to idle actors alike: these find no host any more.
            later = [asyncio.ensure_future(client.actor(Account, name).deposit(1)) for name in [*SLOW, "idle"]]
            await eventually(
                lambda: "" if len(Journal.of_file(file).queued) >= len(SLOW) else "not yet", "the calls are queued"
            )
            go.touch()
            assert await asyncio.gather(*under_way) == [5] * len(SLOW)
            assert await first.ended() == 0, first.errors
        for name in SLOW:
            assert Journal.of_file(file).balance(name) == 5, "acknowledged, and in the file that the first host left"
        async with Worker.running("bank_host", database_url(file)) as second:
            assert await asyncio.gather(*later) == [6] * len(SLOW) + [1]
            await second.stop()
    Journal.of_file(file).settled()


async def test_sigterm_in_the_middle_of_everything(tmp_path: Path) -> None:
    """Sends, reminders, steps, runs: a client that never repeats a call goes through three hosts without an error."""
    file, rounds = tmp_path / "bank.db", 6
    async with make_app(database_url(file)).client() as client:
        done: list[str] = []

        async def carry_out() -> None:
            for operation in plan(rounds):
                await operation.call(client)
                done.append(operation.key)

        calls = asyncio.ensure_future(carry_out())
        for wanted in (7, 18):
            async with Worker.running("bank_host", database_url(file)) as host:
                await eventually(lambda wanted=wanted: calls.done() or len(done) < wanted, "some calls are answered")
                await host.stop()
        async with Worker.running("bank_host", database_url(file)) as host:
            await calls
            await eventually(lambda: Journal.of_file(file).unfinished(), "everything promised")
            await host.stop()
    Journal.of_file(file).settled()
    for account, balance in expected_balances(rounds).items():
        assert Journal.of_file(file).balance(account) == balance


async def test_sigterm_while_calls_come_from_within(tmp_path: Path) -> None:
    file, rounds = tmp_path / "bank.db", 5
    operations = {operation.key: operation for operation in plan(rounds)}
    async with Worker.running("bank_host", database_url(file), BANK_PLAN=str(rounds)) as first:
        await first.event("ack", count=8)
        await first.stop()
        acknowledged = {event["key"]: event["result"] for event in first.reported("ack")}
    journal = Journal.of_file(file)
    journal.prove()
    assert all(journal.holds(operations[key]) for key in acknowledged)
    async with (
        Worker.running("bank_host", database_url(file)) as second,
        make_app(database_url(file)).client() as client,
    ):
        for key, operation in operations.items():
            result = await perform(client, operation)
            assert key not in acknowledged or result == acknowledged[key]
        await eventually(lambda: Journal.of_file(file).unfinished(), "everything promised")
        await second.stop()
    Journal.of_file(file).settled()
    for account, balance in expected_balances(rounds).items():
        assert Journal.of_file(file).balance(account) == balance
