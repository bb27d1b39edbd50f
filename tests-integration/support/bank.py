"""A bank in which every way of making a turn durable is used, and a plan of operations with keys that can be
repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from loom import Actor, Context, Loom, read_only, step_info, workflow
from loom.errors import CallError, NotRunningError, OutcomeUnknownError, OverloadedError, StoreUnavailableError

__all__ = [
    "Account",
    "Operation",
    "audit",
    "database_url",
    "expected_balances",
    "make_app",
    "patiently",
    "perform",
    "plan",
    "transfer",
]

T = TypeVar("T")


class AccountState(msgspec.Struct):
    balance: int = 0
    turns: int = 0


class Account(Actor[AccountState]):
    """An account. ``turns`` counts what was applied, so that a doubled turn of amount 0 would show too."""

    async def deposit(self, amount: int) -> int:
        return self._add(amount)

    async def withdraw(self, amount: int) -> int:
        if self.state.balance < amount:
            raise ValueError(f"{self.key} has {self.state.balance}, not {amount}")
        return self._add(-amount)

    async def pay(self, target: str, amount: int) -> int:
        """Money leaves here and arrives there by a message of the same commit."""
        self.ctx.send(self.ctx.actor(Account, target).deposit, amount)
        return self._add(-amount)

    async def save_later(self, name: str, amount: int) -> int:
        """A reminder that deposits."""
        self.ctx.remind(name, 0.02, self.deposit, amount)
        return self._add(0)

    async def lend(self, target: str, amount: int) -> int:
        """Money leaves here and arrives there by a call, for which this turn waits; the balance there."""
        there: int = await self.ctx.actor(Account, target).deposit(amount)
        self._add(-amount)
        return there

    async def explode(self, fuse: str) -> int:
        """Kills the process, for as long as the file ``fuse`` exists."""
        if os.path.exists(fuse):  # noqa: ASYNC240
            os.kill(os.getpid(), signal.SIGKILL)
        return self._add(0)

    async def charge(self, amount: int) -> int:
        """A turn with two steps: the outside world is told, and its receipt is in the journal."""
        receipt = await self.ctx.step(gateway)(self.key, amount)
        await self.ctx.step(gateway)(receipt, 0)
        return self._add(-amount)

    async def slowly(self, amount: int, started: str, go: str) -> int:
        """A turn that is under way until the file ``go`` exists; it says so by making the file ``started``."""
        Path(started).touch()  # noqa: ASYNC240
        while not os.path.exists(go):  # noqa: ASYNC240
            await asyncio.sleep(0.01)
        return self._add(amount)

    @read_only
    async def balance(self) -> int:
        return self.state.balance

    @read_only
    async def turns(self) -> int:
        return self.state.turns

    def _add(self, amount: int) -> int:
        self.state.balance += amount
        self.state.turns += 1
        return self.state.balance


async def gateway(what: str, amount: int) -> str:
    """The outside world: appends its idempotency key to the file named by ``BANK_GATEWAY``. May run twice."""
    key = step_info().idempotency_key
    ledger = os.environ.get("BANK_GATEWAY")
    if ledger:
        descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{key} {what} {amount}\n".encode())
        os.close(descriptor)
    return key


@workflow
async def audit(ctx: Context, source: str, amount: int) -> str:
    """A child run with a step of its own."""
    return await ctx.step(gateway)(f"audit {source}", amount)


@workflow
async def transfer(ctx: Context, source: str, target: str, amount: int) -> str:
    """Calls, a step, a child, a signal, a timer and a send."""
    await ctx.actor(Account, source).withdraw(amount)
    ctx.add_compensation(ctx.actor(Account, source).deposit, amount)
    await ctx.step(gateway, retries=5)(source, amount)
    await ctx.workflow(audit, f"{ctx.run_id}-audit").run(source, amount)
    await ctx.sleep(0.01)
    if not await ctx.wait_signal("approved", bool, timeout=3600):
        raise PermissionError("refused")
    await ctx.actor(Account, target).deposit(amount)
    ctx.send(ctx.actor(Account, "bank").deposit, 1)
    return f"{source} -> {target}: {amount}"


def database_url(path: Path, query: str = "") -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}{query}"


def make_app(url: str, urls: Mapping[str, str] | None = None, **options: Any) -> Loom:
    """The bank at a URL, with other places for the ports in ``urls``; or where the loom.toml at that path says.

    Snapshots come early, so that tests meet them; nothing is trimmed: it is proof.
    """
    given: dict[str, Any] = {"shards": 16, "snapshot_every": 4, "retain_entries": 1_000_000, **options}
    where: dict[str, Any] = {"toml": url} if url.endswith(".toml") else {"url": url, "urls": urls}
    from .journeys import journey  # which call the accounts of this bank

    return Loom(actors=[Account], workflows=[transfer, audit, journey], env="test", options=given, **where)


class Caller(Protocol):
    """A client, or an app that is running."""

    def actor(self, actor: type[Account], key: str, *, idempotency_key: str | None = None) -> Account: ...

    def workflow(self, workflow: Any, run_id: str) -> Any: ...


class Operation(msgspec.Struct, frozen=True):
    """One keyed request. Repeating it must give the same answer and change nothing."""

    key: str
    method: str
    account: str
    arguments: tuple[Any, ...]

    async def call(self, caller: Caller) -> Any:
        if self.method == "transfer":
            run = await caller.workflow(transfer, self.key).start(self.account, *self.arguments)
            with contextlib.suppress(CallError):  # it has had its signal, and has ended
                await run.signal("approved", True)
            return await run.result(timeout=60)
        reference = caller.actor(Account, self.account, idempotency_key=self.key)
        return await getattr(reference, self.method)(*self.arguments)


def plan(rounds: int = 5) -> Iterator[Operation]:
    """Every kind of operation, round after round."""
    for n in range(rounds):
        yield Operation(f"deposit-{n}", "deposit", "alice", (100,))
        yield Operation(f"pay-{n}", "pay", "alice", ("bob", 10 + n))
        yield Operation(f"save-{n}", "save_later", "alice", (f"saving-{n}", 7))
        yield Operation(f"charge-{n}", "charge", "alice", (3,))
        yield Operation(f"transfer-{n}", "transfer", "alice", ("bob", 20 + n))


def expected_balances(rounds: int = 5) -> dict[str, int]:
    """What the plan amounts to when each operation has happened exactly once."""
    paid = sum(10 + n + 20 + n for n in range(rounds))
    return {"alice": rounds * (100 + 7 - 3) - paid, "bob": paid, "bank": rounds}


def expected_turns(rounds: int = 5) -> dict[str, int]:
    """How many turns each account has made then."""
    return {"alice": 6 * rounds, "bob": 2 * rounds, "bank": rounds}


async def perform(caller: Caller, operation: Operation) -> Any:
    """Carry out one operation under its key, as ``patiently`` as a careful client does."""
    return await patiently(lambda: operation.call(caller))


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the answer is that it may have happened, or that it cannot happen now."""
    while True:
        try:
            return await call()
        except (OutcomeUnknownError, OverloadedError, NotRunningError, StoreUnavailableError):
            await asyncio.sleep(0.05)
