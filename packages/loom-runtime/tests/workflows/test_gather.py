"""Concurrent branches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Context, workflow

LOG: list[str] = []
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()
    GATES.clear()


async def gated(name: str) -> str:
    LOG.append(name)
    await GATES.setdefault(name, asyncio.Event()).wait()
    return name


async def failing() -> None:
    raise ConnectionError("first")


async def note(text: str) -> str:
    LOG.append(text)
    return text


@workflow
async def racing(ctx: Context) -> list[Any]:
    ends: list[str] = []

    async def branch(name: str) -> str:
        await ctx.step(gated)(name)
        ends.append(name)
        return name

    results = await ctx.gather(branch("a"), branch("b"), branch("c"))
    await ctx.wait_signal("go")
    return [results, ends]


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
async def test_results_in_the_order_given_and_replayed_in_the_order_recorded(house: Any, order: str) -> None:
    app = await house.open(racing)
    handle = await app.workflow(racing, "r").start()
    await house.until(lambda: len(GATES) == 3)
    for count, name in enumerate(order, 1):
        GATES[name].set()

        async def done(count: int = count, handle: Any = handle) -> bool:
            return bool((await handle.status()).steps_done == count)

        await house.until(done)
    app = await house.restart(crash=True)
    handle = app.workflow(racing, "r")
    await handle.signal("go")
    assert await handle.result() == [["a", "b", "c"], list(order)]
    assert sorted(LOG) == ["a", "b", "c"]


@workflow
async def first_fails(ctx: Context) -> None:
    async def sleeper() -> None:
        try:
            await ctx.sleep(1000)
        finally:
            await ctx.step(note)("cancelled")

    await ctx.gather(sleeper(), ctx.step(failing)(), ctx.gather(sleeper(), sleeper()))


async def test_the_first_failure_cancels_the_others_and_is_raised(house: Any) -> None:
    app = await house.open(first_fails)
    with pytest.raises(ConnectionError, match="first"):
        await app.workflow(first_fails, "f").run()
    assert LOG == ["cancelled"] * 3


@workflow
async def all_of_them(ctx: Context) -> list[str]:
    found = await ctx.gather(ctx.step(failing)(), ctx.step(note)("x"), return_exceptions=True)
    return [repr(value) for value in found]


async def test_failures_in_their_places(house: Any) -> None:
    app = await house.open(all_of_them)
    assert await app.workflow(all_of_them, "a").run() == ["ConnectionError('first')", "'x'"]


@workflow
async def many(ctx: Context, count: int) -> int:
    return len(await ctx.gather(*(ctx.sleep(0) for _ in range(count))))


async def test_a_thousand_branches_and_no_more(house: Any) -> None:
    app = await house.open(many)
    assert await app.workflow(many, "m").run(1000) == 1000
    assert await app.workflow(many, "none").run(0) == 0
    with pytest.raises(ValueError, match="child runs"):
        await app.workflow(many, "n").run(1001)


@workflow
async def sleep_and_fail(ctx: Context) -> str:
    try:
        await ctx.gather(ctx.step(failing)(), ctx.sleep(0))
    except ConnectionError:
        return "failed"
    return "fine"


async def test_a_sleep_that_ends_in_the_moment_of_the_failure_stops_nothing(house: Any) -> None:
    app = await house.open(sleep_and_fail)
    handles = [await app.workflow(sleep_and_fail, str(n)).start() for n in range(40)]
    assert {await handle.result() for handle in handles} == {"failed"}
