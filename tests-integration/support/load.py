"""Load: callers that keep several calls to each of several accounts in flight, in order, and check what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from loom import Client, LoomError
from loom.codec import decode
from loom.errors import CallError, NotRunningError, StoreUnavailableError

from .bank import Account, expected_balances, patiently, perform, plan
from .places import Place
from .process import PATIENCE, eventually

__all__ = ["Load", "carry_out_plan"]

_UNSURE = (CallError, NotRunningError, StoreUnavailableError)


class Load:
    """Used as ``async with Load(place) as load``: each of ``callers`` deposits to and pays from each account.

    A caller starts its calls to one account in the order of their numbers and has up to ``window`` of them in flight.
    Without ``careful`` a call that fails fails the test. With it, the call is repeated under its key until it is
    answered; its caller is then no longer asked to keep order there, for it was itself who called late. Without
    ``ordered`` none is.
    """

    def __init__(
        self, place: Place, *, callers: int = 3, accounts: int = 8, window: int = 3, careful: bool = False,
        ordered: bool = True, prefix: str = "account",
    ) -> None:  # fmt: skip
        self.place = place
        self.accounts = [f"{prefix}-{n}" for n in range(accounts)]
        self.answers: dict[str, dict[str, Any]] = {name: {} for name in self.accounts}
        self._asked: dict[tuple[str, str], tuple[str, int]] = {}
        self.errors: list[tuple[str, str, LoomError]] = []
        self.slowest = 0.0
        self._callers = [f"{prefix}-caller-{n}" for n in range(callers)]
        self._window = window
        self._careful = careful
        self._ordered = ordered
        self._stop = asyncio.Event()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for caller in self._callers:
            client = await self._stack.enter_async_context(self.place.client())
            self._tasks += [asyncio.ensure_future(self._keep_calling(client, caller, name)) for name in self.accounts]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    @property
    def count(self) -> int:
        """How many calls have been answered."""
        return sum(map(len, self.answers.values()))

    async def more(self, count: int = 1, accounts: list[str] | None = None) -> None:
        """Wait until ``count`` more calls are answered, to each of ``accounts`` if given."""
        before = {name: len(answers) for name, answers in self.answers.items()}

        def missing() -> Any:
            self._check()
            grown = {name: len(answers) - before[name] for name, answers in self.answers.items()}
            if accounts is None:
                return sum(grown.values()) < count and grown
            return [name for name in accounts if grown[name] < count]

        await eventually(missing, "more answers")

    async def finish(self) -> None:
        """Stop, wait for the calls under way, and prove from what is stored that each happened once and in order."""
        self._stop.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)
        self._check()
        await eventually(self.place.unfinished, "everything promised")
        journal = await self.place.journal()
        journal.prove()
        balances: Counter[str] = Counter()
        for name, answers in self.answers.items():
            stored = {turn.request.rpartition("/")[2]: turn for turn in journal.turns(name)}
            lost = [key for key in answers if key not in stored]
            assert not lost, f"{name}: acknowledged and lost: {lost}"
            other = {k: v for k, v in answers.items() if decode(stored[k].result or b"\xc0") != v}
            assert not other, f"{name}: the journal has other answers than {other}"
            if self._ordered:
                journal.in_order(name, besides={caller for caller, account, _ in self.errors if account == name})
            for key in answers:
                target, amount = self._asked[name, key]
                balances[name] += -amount if target else amount
                if target:
                    balances[target] += amount
        assert {name: journal.balance(name) for name in self.accounts} == {n: balances[n] for n in self.accounts}

    def _check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _keep_calling(self, client: Client, caller: str, name: str) -> None:
        flying: set[asyncio.Task[None]] = set()
        number = 0
        try:
            while not self._stop.is_set():
                while len(flying) < self._window:
                    number += 1
                    flying.add(asyncio.ensure_future(self._call(client, caller, name, number)))
                done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            await asyncio.gather(*flying)
        finally:
            for task in flying:
                task.cancel()

    async def _call(self, client: Client, caller: str, name: str, number: int) -> None:
        key = f"{caller}:{number}"
        # Every fourth call pays one to the next account: a message of the turn's own.
        target = self.accounts[(self.accounts.index(name) + 1) % len(self.accounts)] if number % 4 == 0 else ""
        self._asked[name, key] = (target, 1)
        began = asyncio.get_running_loop().time()
        while True:
            account = client.actor(Account, name, idempotency_key=key)
            try:
                self.answers[name][key] = await (account.pay(target, 1) if target else account.deposit(1))
                break
            except _UNSURE as error:
                self.errors.append((caller, name, error))
                if not self._careful:
                    raise AssertionError(f"{name}, {key} failed: {error!r}") from error
                await asyncio.sleep(0.05)
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began)


async def carry_out_plan(place: Place, rounds: int = 2) -> None:
    """Every way of making a turn or a run durable; ends when all that was set going has come true."""

    async def wrong() -> object:
        journal = await place.journal()
        return {name: journal.balance(name) for name in wanted if journal.balance(name) != wanted[name]}

    wanted = expected_balances(rounds)
    async with place.client() as client:
        for operation in plan(rounds):
            await perform(client, operation)
        await eventually(wrong, "what the plan amounts to")
        for account, balance in wanted.items():
            assert await patiently(client.actor(Account, account).balance) == balance, account
