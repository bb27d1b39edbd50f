"""Processes that share one SQLite file: no turn is lost or doubled, whoever comes, goes, dies or sleeps."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bank import Account, Operation, database_url, expected_balances, make_app, perform, plan, transfer
from support.fleet import account_of, owned, owner_of, pause, shared_out, unlock
from support.process import PATIENCE, Worker, eventually
from support.proof import Journal

from loom import Client
from loom.runtime.messages import Kind, actor_stream

pytestmark = pytest.mark.crash

ROUNDS = 6
ACCOUNTS = [f"account-{n}" for n in range(12)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
async def client(file: Path) -> AsyncIterator[Client]:
    async with make_app(database_url(file)).client() as client:
        yield client


class Load:
    """Deposits of 1 to every account in turn, and the plan beside them. ``careful`` repeats what is unknown."""

    def __init__(self, client: Client, *, careful: bool) -> None:
        self._client = client
        self._careful = careful
        self._stopping = False
        self.acknowledged: dict[str, int] = dict.fromkeys(ACCOUNTS, 0)
        self.planned = asyncio.ensure_future(self._plan())
        self.tasks = [asyncio.ensure_future(self._deposit(account)) for account in ACCOUNTS]

    @property
    def count(self) -> int:
        return sum(self.acknowledged.values())

    async def more(self, count: int, accounts: list[str] | None = None) -> None:
        """Wait until ``count`` more deposits are acknowledged, of each of ``accounts`` if given."""
        names = accounts or ["all"]
        count_of: Callable[[str], int] = lambda name: self.count if name == "all" else self.acknowledged[name]  # noqa: E731
        wanted = {name: count_of(name) + count for name in names}
        async with asyncio.timeout(PATIENCE):
            while any(count_of(name) < wanted[name] for name in names):
                failed = [task for task in [*self.tasks, self.planned] if task.done() and task.exception()]
                for task in failed:
                    task.result()
                await asyncio.sleep(0.005)

    async def finish(self, file: Path) -> None:
        """Stop, wait for what is under way, and check everything from outside."""
        self._stopping = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.tasks, self.planned)
        await eventually(lambda: Journal.of_file(file).unfinished(), "everything promised")
        journal = Journal.of_file(file)
        journal.prove()  # not settled(): a host that reads from another has a request in the queue now and then
        for account, amount in self.acknowledged.items():
            assert journal.balance(account) == amount, account
            assert await self._client.actor(Account, account).balance() == amount, account
        for account, amount in expected_balances(ROUNDS).items():
            assert journal.balance(account) == amount, account

    async def _plan(self) -> None:
        for operation in plan(ROUNDS):
            await self._call(operation)

    async def _deposit(self, account: str) -> None:
        while not self._stopping:
            number = self.acknowledged[account] + 1
            assert await self._call(Operation(f"{account}-{number}", "deposit", account, (1,))) == number
            self.acknowledged[account] = number

    async def _call(self, operation: Operation) -> Any:
        return await (perform(self._client, operation) if self._careful else operation.call(self._client))


@asynccontextmanager
async def two_hosts(file: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    async with (
        Worker.running("bank_host", database_url(file)) as one,
        Worker.running("bank_host", database_url(file)) as two,
    ):
        await eventually(lambda: shared_out(database_url(file), [one, two]), "both own shards")
        yield one, two


async def test_both_host_and_no_call_fails(file: Path, client: Client) -> None:
    async with two_hosts(file) as (one, two):
        load = Load(client, careful=False)
        await load.more(200)
        await load.planned
        await load.finish(file)
        await one.stop()
        await two.stop()


async def test_one_is_killed_and_the_other_takes_over(file: Path, client: Client) -> None:
    async with two_hosts(file) as (one, two):
        load = Load(client, careful=True)
        await load.more(100)
        await two.kill()
        # Its actors answer again, and the runs and reminders of the plan come to their end.
        await load.more(3, ACCOUNTS)
        await eventually(lambda: shared_out(database_url(file), [one]), "the survivor owns everything")
        await load.planned
        await load.finish(file)


async def test_a_killed_host_leaves_reminders_and_runs_to_the_other(file: Path, client: Client) -> None:
    """With nobody who asks for them: liveness is a kernel lock, so nothing has to time out first."""
    async with two_hosts(file) as (_one, two):
        account = await account_of(database_url(file), two)
        await client.actor(Account, account).deposit(100)
        await client.actor(Account, account).save_later("soon", 7)
        for n in range(8):  # enough that some lie in the shards of the one that dies
            run = await client.workflow(transfer, f"left-{n}").start(account, "bob", 1)
            await run.signal("approved", True)
        await two.kill()
        await eventually(lambda: Journal.of_file(file).unfinished(), "the reminder fires, the runs end")
        await eventually(
            lambda: abs(Journal.of_file(file).balance(account) - 99), "what the reminder and the runs have moved"
        )
        Journal.of_file(file).settled()


async def test_a_paused_holder_keeps_what_it_owns_and_goes_on(file: Path, client: Client) -> None:
    async with two_hosts(file) as (one, two):
        mine = [
            name for name in ACCOUNTS if await owner_of(database_url(file), actor_stream("Account", name)) == one.pid
        ]
        load = Load(client, careful=True)
        await load.more(50)
        pause(file, two)
        await load.more(5, mine)
        assert set(await owned(database_url(file))) == {one.pid, two.pid}, (
            "a paused process lives: the kernel keeps its lock"
        )
        two.signal(signal.SIGCONT)
        await load.more(5, ACCOUNTS)
        await load.finish(file)


async def test_a_paused_holder_that_was_replaced_doubles_nothing_and_reads_nothing_stale(
    file: Path, client: Client
) -> None:
    async with two_hosts(file) as (one, two):
        account = await account_of(database_url(file), two)
        await two.say(f"read {account}")
        load = Load(client, careful=True)
        await perform(client, Operation("before", "deposit", account, (1000,)))
        await two.event("read", count=3)
        await load.more(50)
        pause(file, two)
        unlock(file, two)
        await eventually(lambda: shared_out(database_url(file), [one]), "the paused host is replaced")
        acknowledged = await perform(client, Operation("meanwhile", "deposit", account, (1000,)))
        await load.more(5, ACCOUNTS)
        seen = len(two.reported("read"))
        two.signal(signal.SIGCONT)
        # The first read may have begun before the pause; every later one began after the deposit was acknowledged.
        await two.event("read", count=seen + 20)
        late = [event["balance"] for event in two.reported("read")[seen + 1 :]]
        assert min(late) >= acknowledged, f"a stale balance was reported: {min(late)} after {acknowledged}"
        await load.more(5, ACCOUNTS)
        await load.finish(file)
        assert Journal.of_file(file).balance(account) == 2000


async def test_a_join_moves_shards_without_a_failed_call(file: Path, client: Client) -> None:
    async with Worker.running("bank_host", database_url(file), BANK_PLAN="8", BANK_STRICT="1") as one:
        load = _DepositsOnly(client)
        await load.more(30)
        async with Worker.running("bank_host", database_url(file)) as two:
            await eventually(lambda: shared_out(database_url(file), [one, two]), "both own shards")
            await load.more(3, ACCOUNTS)
            await one.event("done")
            assert not one.reported("failed"), one.reported("failed")
            # And back again: one leaves in good order.
            await two.stop()
            await load.more(3, ACCOUNTS)
            await eventually(lambda: shared_out(database_url(file), [one]), "the first owns everything again")
        await load.finish(file)
    for account, balance in expected_balances(8).items():
        assert Journal.of_file(file).balance(account) == balance


async def test_a_client_that_only_calls_may_come_before_any_host(file: Path, client: Client) -> None:
    early = [asyncio.ensure_future(operation.call(client)) for operation in list(plan(1))[:4]]
    await eventually(
        lambda: "" if len(Journal.of_file(file).queued) == 4 else "not queued", "the calls wait in the file"
    )
    async with Worker.running("bank_host", database_url(file)) as host:
        assert await asyncio.gather(*early) == [100, 90, 90, 87]
        await host.stop()


async def test_a_client_that_waits_for_a_result_holds_up_no_signal(file: Path, client: Client) -> None:
    async with Worker.running("bank_host", database_url(file)):
        run = await client.workflow(transfer, "t").start("alice", "bob", 0)
        await eventually(lambda: "not yet" if Journal.of_file(file).queued else "", "the start is acknowledged")
        result = asyncio.ensure_future(run.result())
        await eventually(
            lambda: "" if Kind.RESULT in Journal.of_file(file).queued.values() else "not yet",
            "the request for the result waits",
        )
        waiting = next(id for id, kind in Journal.of_file(file).queued.items() if kind is Kind.RESULT)
        await run.signal("something else")
        assert waiting in Journal.of_file(file).queued, "the signal came only after the request had been answered"
        await run.signal("approved", True)
        assert await result == "alice -> bob: 0"


class _DepositsOnly(Load):
    """The plan is carried out by somebody else."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, careful=False)

    async def _plan(self) -> None:
        return

    async def finish(self, file: Path) -> None:
        self._stopping = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.tasks)
        await eventually(lambda: Journal.of_file(file).unfinished(), "everything promised")
        Journal.of_file(file).settled()
        for account, amount in self.acknowledged.items():
            assert Journal.of_file(file).balance(account) == amount, account
