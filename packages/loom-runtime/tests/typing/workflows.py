"""What type checkers know of workflows. Not run: mypy checks it, and an unneeded ignore is an error."""

from __future__ import annotations

from typing import Any, assert_type

from loom import Actor, Context, Loom, workflow
from loom.client import RunHandle, RunSummary
from loom.runtime.run_status import RunStatus


class Account(Actor[None]):
    async def deposit(self, amount: int) -> int:
        return amount


async def charge(card: str, amount: int) -> float:
    return float(amount)


def plain(number: int) -> str:
    return str(number)


def refund(card: str, amount: int) -> None: ...


@workflow
async def transfer(ctx: Context, source: str, amount: int) -> str:
    assert_type(await ctx.actor(Account, source).deposit(amount), int)
    assert_type(await ctx.step(charge, retries=5, undo=refund)("card", amount), float)
    assert_type(await ctx.step(plain)(5), str)
    await ctx.step(charge)("card")  # type: ignore[call-arg]
    await ctx.step(plain)("5")  # type: ignore[arg-type]
    assert_type(await ctx.wait_signal("approved", bool, timeout=3600), bool)
    assert_type(await ctx.wait_signal("approved", dict[str, int]), dict[str, int])
    assert_type(await ctx.wait_signal("approved"), Any)
    ctx.add_compensation(ctx.actor(Account, source).deposit, amount)
    ctx.add_compensation(ctx.actor(Account, source).deposit, "1")  # type: ignore[arg-type]
    ctx.send(ctx.actor(Account, source).deposit, amount)
    assert_type(ctx.version("change"), int)
    await ctx.sleep(5)
    await ctx.sleep("5")  # type: ignore[arg-type]
    return "done"


async def outside(app: Loom) -> None:
    handle = app.workflow(transfer, "t-1")
    assert_type(await (await handle.start("a", 1)).result(), str)
    assert_type(await handle.run("a", amount=1), str)
    assert_type(await handle.result(timeout=10), str)
    assert_type(await handle.status(), RunStatus)
    assert_type(await handle.get("progress", int), int)
    assert_type(await handle.get("progress"), Any)
    assert_type(await handle.cancel(), bool)
    await handle.start("a")  # type: ignore[call-arg]
    await handle.start("a", "1")  # type: ignore[arg-type]
    app.workflow(charge, "t-1")  # type: ignore[arg-type]
    assert_type(await app.calls.runs(status="running"), list[RunSummary])
    assert_type(app.calls.run("transfer", "t-1"), RunHandle[..., Any])
