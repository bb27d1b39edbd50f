"""Actors that the tests share."""

from __future__ import annotations

import asyncio

import msgspec

from loom import Actor, read_only


class Balance(msgspec.Struct):
    amount: int = 0
    seen: list[str] = []


class Refused(Exception): ...


class Account(Actor[Balance]):
    async def deposit(self, amount: int) -> int:
        self.state.amount += amount
        return self.state.amount

    async def withdraw(self, amount: int) -> int:
        if self.state.amount < amount:
            raise Refused(self.key, self.state.amount)
        self.state.amount -= amount
        return self.state.amount

    async def note(self, text: str) -> int:
        self.state.seen.append(text)
        return len(self.state.seen)

    async def pay(self, target: str, amount: int) -> int:
        """Takes the money here and sends it."""
        self.state.amount -= amount
        self.ctx.send(self.ctx.actor(Account, target).deposit, amount)
        return self.state.amount

    async def tell(self, target: str, *, texts: list[str]) -> None:
        for text in texts:
            self.ctx.send(self.ctx.actor(Account, target).note, text)

    async def call_deposit(self, target: str, amount: int) -> int:
        return await self.ctx.actor(Account, target).deposit(amount)

    @read_only
    async def balance(self) -> int:
        return self.state.amount

    @read_only
    async def notes(self) -> list[str]:
        return self.state.seen


class Gate:
    """Lets a test hold handlers where it wants them."""

    def __init__(self) -> None:
        self.entered = 0
        self.open = asyncio.Event()

    async def wait(self) -> None:
        self.entered += 1
        await self.open.wait()
