"""Runs that can be stopped in the middle of each kind of step, and a ledger of what they did to the outside world."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from loom import Context, step_info, workflow

from .bank import Account

__all__ = ["GATED", "KINDS", "RefusedError", "journey", "ledger"]

SLEEP = 4.0
"""Seconds, long enough for a host to die in them."""


class RefusedError(Exception):
    """The run of kind ``compensation`` fails with it."""


async def mark(folder: str, name: str) -> str:
    """The outside world: a line in the file of that name, which is the step's idempotency key. May run twice."""
    key = step_info().idempotency_key
    descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{key}\n".encode())
    os.close(descriptor)
    return key


async def gate(folder: str, name: str) -> str:
    """The outside world, which is slow: it has had the effect and does not answer before the file ``go`` exists."""
    key = await mark(folder, name)
    while not os.path.exists(f"{folder}/go"):  # noqa: ASYNC240
        await asyncio.sleep(0.02)
    return key


async def gate_after_failure(folder: str, name: str) -> str:
    """As ``gate``, but its first attempt of all fails."""
    if not os.path.exists(f"{folder}/{name}.failed"):  # noqa: ASYNC240
        await mark(folder, f"{name}.failed")
        raise ConnectionError("the first attempt fails")
    return await gate(folder, name)


async def _step(ctx: Context, folder: str) -> None:
    await ctx.step(gate)(folder, "step")


async def _retry(ctx: Context, folder: str) -> None:
    await ctx.step(gate_after_failure, retries=5)(folder, "retry")


async def _undo(ctx: Context, folder: str) -> None:
    await ctx.step(gate, undo=mark)(folder, "undo")


async def _call(ctx: Context, folder: str) -> None:
    await ctx.actor(Account, "called").slowly(1, f"{folder}/call", f"{folder}/go")


async def _child(ctx: Context, folder: str) -> None:
    await ctx.workflow(journey, f"{ctx.run_id}-child").run("childs", folder)


async def _childs(ctx: Context, folder: str) -> None:
    await ctx.step(gate)(folder, "child")


async def _gather(ctx: Context, folder: str) -> None:
    await ctx.gather(ctx.step(mark)(folder, "gather.done"), ctx.step(gate)(folder, "gather"))


async def _compensation(ctx: Context, folder: str) -> None:
    ctx.add_compensation(ctx.actor(Account, "compensated").deposit, 1)
    ctx.add_compensation(gate, folder, "compensation")
    raise RefusedError("compensate")


async def _signal(ctx: Context, folder: str) -> None:
    assert await ctx.wait_signal("go", bool)


async def _sleep(ctx: Context, folder: str) -> None:
    await ctx.sleep(SLEEP)


_MIDDLES: dict[str, Callable[[Context, str], Awaitable[None]]] = {
    "step": _step,
    "retry": _retry,
    "undo": _undo,
    "call": _call,
    "child": _child,
    "childs": _childs,
    "gather": _gather,
    "compensation": _compensation,
    "signal": _signal,
    "sleep": _sleep,
}
KINDS = tuple(kind for kind in _MIDDLES if kind != "childs")
"""The kinds of steps, ``sleep`` last."""

GATED = tuple(kind for kind in KINDS if kind not in ("signal", "sleep"))
"""Those whose middle is a file of their name, and its end the file ``go``."""


@workflow
async def journey(ctx: Context, kind: str, folder: str) -> str:
    """A step, then something of that kind, then a step, a call and a message."""
    await ctx.step(mark)(folder, f"{kind}.before")
    await _MIDDLES[kind](ctx, folder)
    await ctx.step(mark)(folder, f"{kind}.after")
    await ctx.actor(Account, kind).deposit(1)
    ctx.send(ctx.actor(Account, "sink").deposit, 1)
    return kind


def ledger(folder: Path, name: str) -> list[str]:
    """The keys under which a step of that name has run, once for each time."""
    path = folder / name
    return path.read_text().split() if path.exists() else []
