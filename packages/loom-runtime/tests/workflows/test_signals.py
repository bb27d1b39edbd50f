"""Signals and time: buffered, typed, late, and kept over restarts and incarnations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Context, workflow
from loom.errors import InvalidArgumentsError, RunNotFoundError


async def nothing() -> None:
    return None


@workflow
async def three(ctx: Context) -> list[int]:
    await ctx.wait_signal("begin")
    return [await ctx.wait_signal("n", int) for _ in range(3)]


@workflow
async def patient(ctx: Context) -> str:
    try:
        return await ctx.wait_signal("go", str, timeout=30 * 86400)
    except TimeoutError:
        return "late"


@workflow
async def counting(ctx: Context, count: int, until: int) -> int:
    ctx.publish("count", count)
    if count == until:
        return count
    count += await ctx.wait_signal("add", int)
    ctx.continue_as_new(count, until)


@workflow
async def spinning(ctx: Context, left: int) -> str:
    if left == 0:
        return "done"
    await ctx.sleep(0)
    ctx.continue_as_new(left - 1)


@workflow
async def badly_renewed(ctx: Context, number: int) -> None:
    ctx.continue_as_new("no number")


async def test_signals_of_before_anybody_waits_are_kept_in_order(house: Any) -> None:
    app = await house.open(three)
    handle = await app.workflow(three, "t").start()
    for number in (1, 2, 3):
        await handle.signal("n", number)
    app = await house.restart(crash=True)
    await app.workflow(three, "t").signal("begin")
    assert await app.workflow(three, "t").result() == [1, 2, 3]


async def test_a_wrong_type_is_refused_at_the_sender_when_the_run_waits(house: Any) -> None:
    app = await house.open(patient)
    handle = await app.workflow(patient, "p").start()
    await house.waits(handle, "go")
    with pytest.raises(InvalidArgumentsError, match="go"):
        await handle.signal("go", 5)
    await handle.signal("go", "right")
    assert await handle.result() == "right"


@pytest.mark.parametrize("crash", [False, True])
async def test_a_timeout_of_thirty_days_survives_restarts(house: Any, crash: bool) -> None:
    clock = house.manual()
    app = await house.open(patient)
    handle = await app.workflow(patient, "p").start()
    await house.waits(handle, "go")
    clock.advance(15 * 86400)
    app = await house.restart(crash=crash)
    handle = app.workflow(patient, "p")
    await house.waits(handle, "go")
    clock.advance(15 * 86400 + 1)
    assert await handle.result() == "late"


async def test_idle_runs_leave_memory_and_are_woken_by_time_and_by_signals(house: Any) -> None:
    clock = house.manual()
    app = await house.open(patient)
    one, two = [await app.workflow(patient, name).start() for name in ("one", "two")]
    await house.waits(one, "go")
    await house.waits(two, "go")
    clock.advance(400)
    await house.until(lambda: not app.host.cells)
    await two.signal("go", "woken")
    assert await two.result() == "woken"
    clock.advance(400)
    await house.until(lambda: not app.host.cells)
    app = await house.restart(crash=True)
    clock.advance(30 * 86400)
    assert await app.workflow(patient, "one").result() == "late"


async def test_no_signal_is_lost_or_doubled_by_continue_as_new(house: Any) -> None:
    app = await house.open(counting)
    handle = await app.workflow(counting, "c").start(0, 100)
    await asyncio.gather(*(handle.signal("add", 1) for _ in range(50)))
    app = await house.restart(crash=True)
    handle = app.workflow(counting, "c")
    await asyncio.gather(*(handle.signal("add", 1) for _ in range(50)))
    async with asyncio.timeout(10):
        assert await handle.result() == 100
    assert await handle.get("count") == 100


async def test_thousands_of_incarnations_do_not_grow(house: Any) -> None:
    house.options["retain_entries"] = 50
    app = await house.open(spinning)
    handle = await app.workflow(spinning, "s").start(1000)
    assert await handle.result() == "done"
    assert (await handle.status()).incarnation == 1000
    head = await app.host.journal.head("run/spinning/s")
    assert head.seq > 1500
    kept = await app.host.journal.read("run/spinning/s", after=head.snapshot_seq - 50, limit=10_000)
    assert len(kept) < 400
    app = await house.restart()
    assert await app.workflow(spinning, "s").result() == "done"


async def test_wrong_arguments_of_the_next_incarnation_fail_this_one(house: Any) -> None:
    app = await house.open(badly_renewed)
    with pytest.raises(InvalidArgumentsError):
        await app.workflow(badly_renewed, "b").run(1)


async def test_a_signal_to_nobody(house: Any) -> None:
    app = await house.open(three)
    with pytest.raises(RunNotFoundError, match="three"):
        await app.workflow(three, "none").signal("n", 1)
