"""What type checkers know of actors. Not run: mypy checks it, and an unneeded ignore is an error."""

from __future__ import annotations

import datetime as dt
from collections.abc import Coroutine
from typing import Any, assert_type

import msgspec

from loom import Actor, Loom, read_only
from loom.client import Client
from loom.context import TurnContext


class State(msgspec.Struct):
    amount: int = 0


async def fetch(url: str, *, tries: int = 1) -> bytes:
    return url.encode()


def plain(number: int) -> str:
    return str(number)


class Account(Actor[State]):
    async def deposit(self, amount: int) -> int:
        assert_type(self.state, State)
        assert_type(self.state.amount, int)
        assert_type(self.key, str)
        assert_type(self.ctx, TurnContext)
        assert_type(self.ctx.now, dt.datetime)
        self.state = State(1)
        self.state = 5  # type: ignore[assignment]
        return self.state.amount

    async def name(self, prefix: str = "") -> str | None:
        return prefix

    @read_only
    async def balance(self) -> int:
        return self.state.amount

    @read_only(stale_ok=5)
    async def stale(self) -> list[int]:
        return [self.state.amount]

    async def effects(self) -> None:
        other = self.ctx.actor(Account, "other")
        assert_type(other, Account)
        assert_type(await other.deposit(1), int)
        self.ctx.send(other.deposit, 1)
        self.ctx.send(other.deposit, amount=1)
        self.ctx.send(other.deposit, "1")  # type: ignore[arg-type]
        self.ctx.send(other.deposit)  # type: ignore[call-arg]
        self.ctx.send(plain, 1)  # type: ignore[arg-type]
        self.ctx.remind("r", 5, self.deposit, 1)
        self.ctx.remind("r", dt.timedelta(hours=1), self.deposit, 1)
        self.ctx.cancel_reminder("r")
        assert_type(await self.ctx.step(fetch, retries=3, timeout=1.0)("url", tries=2), bytes)
        assert_type(await self.ctx.step(plain, name="p")(5), str)
        await self.ctx.step(fetch)(5)  # type: ignore[arg-type]
        await self.ctx.step(fetch)("url", attempts=2)  # type: ignore[call-arg]
        assert_type(self.ctx.resource(dict), dict[Any, Any])


class Empty(Actor[None]):
    async def nothing(self) -> None:
        assert_type(self.state, None)


async def outside(app: Loom, client: Client) -> None:
    assert_type(app.actor(Account, "a"), Account)
    call = app.actor(Account, "a").deposit(1)
    same = assert_type(call, Coroutine[Any, Any, int])
    assert_type(await same, int)
    assert_type(await app.actor(Account, "a").deposit(1), int)
    assert_type(await app.actor(Account, "a", idempotency_key="k").deposit(amount=1), int)
    assert_type(await app.actor(Account, "a").name(), str | None)
    assert_type(await app.actor(Account, "a").balance(), int)
    assert_type(await app.actor(Account, "a").stale(), list[int])
    assert_type(await client.actor(Account, "a").deposit(1), int)
    assert_type(await client.call("Account", "a", "deposit", 1), Any)
    await app.actor(Account, "a").deposit("1")  # type: ignore[arg-type]
    await app.actor(Account, "a").deposit()  # type: ignore[call-arg]
    await app.actor(Account, "a").deposit(1, 2)  # type: ignore[call-arg]
    await app.actor(Account, "a").steal(1)  # type: ignore[attr-defined]
    app.actor(Account, 5)  # type: ignore[arg-type]
    app.actor(int, "a")  # type: ignore[type-var]
    app.actor(Account, "a").deposit(1)  # type: ignore[unused-coroutine]
    Loom([int])  # type: ignore[list-item]
