"""Cancellation: at sleep, at a wait, before something new; never in the middle of a call or step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Context, workflow
from loom.errors import WorkflowCancelledError

LOG: list[str] = []
GATE: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()
    GATE["go"] = asyncio.Event()


async def note(text: str) -> None:
    LOG.append(text)


async def gated(text: str) -> str:
    LOG.append(f"{text} began")
    await GATE["go"].wait()
    LOG.append(f"{text} ended")
    return text


@workflow
async def sleeping(ctx: Context) -> None:
    try:
        await ctx.sleep(30 * 86400)
    except asyncio.CancelledError as error:
        await ctx.step(note)(f"cleanup: {error}")
        raise
    finally:
        await ctx.step(note)("finally")


@workflow
async def waiting(ctx: Context) -> None:
    await ctx.wait_signal("never")


@workflow
async def stepping(ctx: Context) -> None:
    await ctx.step(gated)("first")
    await ctx.step(note)("second")


@workflow
async def branches(ctx: Context) -> None:
    await ctx.gather(ctx.step(gated)("a"), ctx.step(gated)("b"))
    await ctx.step(note)("after the gather")


@workflow
async def stubborn(ctx: Context) -> str:
    try:
        await ctx.sleep(1000)
    except asyncio.CancelledError:
        await ctx.sleep(0)
    return "went on"


async def test_delivered_at_a_sleep_and_cleanup_may_run_steps(house: Any) -> None:
    app = await house.open(sleeping)
    handle = await app.workflow(sleeping, "s").start()
    assert await handle.cancel("enough") is True
    with pytest.raises(WorkflowCancelledError):
        await handle.result()
    assert LOG == ["cleanup: enough", "finally"]
    assert (await handle.status()).status == "cancelled"


async def test_delivered_at_a_wait_for_a_signal(house: Any) -> None:
    app = await house.open(waiting)
    handle = await app.workflow(waiting, "s").start()
    await handle.cancel()
    with pytest.raises(WorkflowCancelledError):
        await handle.result()


async def test_a_step_under_way_ends_and_the_next_does_not_begin(house: Any) -> None:
    app = await house.open(stepping)
    handle = await app.workflow(stepping, "s").start()
    await house.until(lambda: LOG)
    await handle.cancel()
    assert (await handle.status()).cancel_requested
    assert LOG == ["first began"]
    GATE["go"].set()
    with pytest.raises(WorkflowCancelledError):
        await handle.result()
    assert LOG == ["first began", "first ended"]


async def test_branches_that_end_by_themselves_do_not_swallow_the_cancellation(house: Any) -> None:
    app = await house.open(branches)
    handle = await app.workflow(branches, "s").start()
    await house.until(lambda: len(LOG) == 2)
    await handle.cancel()
    GATE["go"].set()
    with pytest.raises(WorkflowCancelledError):
        await handle.result()
    assert "after the gather" not in LOG


async def test_a_workflow_may_refuse_and_a_second_cancel_changes_nothing(house: Any) -> None:
    app = await house.open(stubborn)
    handle = await app.workflow(stubborn, "s").start()
    await asyncio.gather(handle.cancel("one"), handle.cancel("two"))
    assert await handle.result() == "went on"
    assert await handle.cancel() is False
    assert (await handle.status()).status == "completed"


@pytest.mark.parametrize("crash", [False, True])
async def test_a_cancellation_survives_a_restart_before_it_is_delivered(house: Any, crash: bool) -> None:
    house.options["drain_seconds"] = 0
    app = await house.open(stepping)
    handle = await app.workflow(stepping, "s").start()
    await house.until(lambda: LOG)
    await handle.cancel()
    app = await house.restart(crash=crash)
    GATE["go"].set()
    with pytest.raises(WorkflowCancelledError):
        await app.workflow(stepping, "s").result()
    assert "second" not in LOG


async def test_leaving_memory_does_not_run_cleanup(house: Any) -> None:
    app = await house.open(sleeping)
    handle = await app.workflow(sleeping, "s").start()
    await house.waits(handle, "sleep")
    app = await house.restart(crash=False)
    assert (await app.workflow(sleeping, "s").status()).status == "running"
    assert LOG == []
