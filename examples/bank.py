"""The bank: accounts that never lose a cent, and a transfer that waits for approval."""

import asyncio

import msgspec

from loom import Actor, Context, Loom, read_only, workflow


class InsufficientFunds(Exception): ...


class AccountState(msgspec.Struct):
    balance: int = 0


class Account(Actor[AccountState]):
    async def deposit(self, amount: int) -> int:
        self.state.balance += amount
        return self.state.balance

    async def withdraw(self, amount: int) -> int:
        if self.state.balance < amount:
            raise InsufficientFunds(self.key)
        self.state.balance -= amount
        return self.state.balance

    @read_only
    async def balance(self) -> int:
        return self.state.balance


async def notify(source: str, amount: int) -> None:
    print(f"transfer of {amount} from {source} waits for approval")


@workflow
async def transfer(ctx: Context, source: str, target: str, amount: int) -> str:
    await ctx.actor(Account, source).withdraw(amount)
    ctx.add_compensation(ctx.actor(Account, source).deposit, amount)  # runs if the transfer fails or is cancelled
    await ctx.step(notify, retries=5, timeout=10)(source, amount)  # the outside world: at least once, memoised
    if not await ctx.wait_signal("approved", bool, timeout=3600):
        raise PermissionError("transfer refused")
    await ctx.actor(Account, target).deposit(amount)
    return "done"


app = Loom(actors=[Account], workflows=[transfer])  # LOOM_URL, then loom.toml, then sqlite:///loom.db


async def main() -> None:
    async with app:
        await app.actor(Account, "alice").deposit(100)
        await app.actor(Account, "alice", idempotency_key="tx-1").deposit(5)
        run = await app.workflow(transfer, "t-1").start("alice", "bob", 30)
        await run.signal("approved", True)
        print(await run.result(timeout=10), await run.status())


if __name__ == "__main__":
    asyncio.run(main())
