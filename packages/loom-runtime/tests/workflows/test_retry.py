"""Retrying a failed run: what is done stays done, and what was taken back is done anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Actor, Context, workflow
from loom.errors import CallError, WorkflowCancelledError

LOG: list[str] = []
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()
    BROKEN.clear()


async def act(what: str) -> str:
    LOG.append(what)
    if what in BROKEN:
        raise ConnectionError(what)
    return what


@workflow
async def plain(ctx: Context) -> list[str]:
    return [await ctx.step(act)("one"), await ctx.step(act)("two")]


@workflow
async def compensated(ctx: Context) -> list[str]:
    one = await ctx.step(act)("one")
    ctx.add_compensation(act, "undo one")
    return [one, await ctx.step(act)("two")]


@workflow
async def cleaning(ctx: Context) -> list[str]:
    one = await ctx.step(act)("one")
    try:
        two = await ctx.step(act)("two")
    except ConnectionError:
        await ctx.step(act)("give one back")
        raise
    return [one, two]


@workflow(name="buggy")
async def buggy(ctx: Context) -> str:
    try:
        await ctx.step(act)("handled")
    except ConnectionError:
        await ctx.step(act)("fallback")
    raise ValueError("a bug")


@workflow(name="buggy")
async def mended(ctx: Context) -> str:
    try:
        await ctx.step(act)("handled")
    except ConnectionError:
        await ctx.step(act)("fallback")
    return await ctx.step(act)("the end")


@workflow
async def forked(ctx: Context) -> list[str]:
    return await ctx.gather(ctx.step(act)("a"), ctx.step(act)("b"), ctx.step(act)("c"))


async def _fails(handle: Any, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        await handle.result()


@pytest.mark.parametrize("restart", [False, True])
async def test_from_the_failed_step_with_the_memo_kept(house: Any, restart: bool) -> None:
    BROKEN.add("two")
    app = await house.open(plain)
    handle = await app.workflow(plain, "p").start()
    await _fails(handle, ConnectionError)
    BROKEN.clear()
    if restart:
        app = await house.restart()
        handle = app.workflow(plain, "p")
    await handle.retry()
    assert await handle.result() == ["one", "two"]
    assert LOG == ["one", "two", "two"]
    app = await house.restart(crash=True)
    assert await app.workflow(plain, "p").result() == ["one", "two"]


async def test_from_the_start_where_compensations_have_run(house: Any) -> None:
    BROKEN.add("two")
    app = await house.open(compensated)
    handle = await app.workflow(compensated, "p").start()
    await _fails(handle, ConnectionError)
    BROKEN.clear()
    await handle.retry()
    assert await handle.result() == ["one", "two"]
    assert LOG == ["one", "two", "undo one", "one", "two"]
    assert (await handle.status()).incarnation == 1


async def test_from_the_start_where_the_code_has_cleaned_up_by_itself(house: Any) -> None:
    BROKEN.add("two")
    app = await house.open(cleaning)
    handle = await app.workflow(cleaning, "p").start()
    await _fails(handle, ConnectionError)
    BROKEN.clear()
    await handle.retry()
    assert await handle.result() == ["one", "two"]
    assert LOG == ["one", "two", "give one back", "one", "two"]


async def test_after_a_bug_mended_code_goes_on_from_the_last_entry(house: Any) -> None:
    BROKEN.add("handled")
    app = await house.open(buggy)
    handle = await app.workflow(buggy, "p").start()
    await _fails(handle, ValueError)
    app = await house.restart(mended)
    handle = app.workflow(mended, "p")
    await handle.retry()
    assert await handle.result() == "the end"
    assert LOG == ["handled", "fallback", "the end"]
    app = await house.restart(crash=True)
    assert await app.workflow(mended, "p").result() == "the end"


async def test_of_a_gather_only_the_branch_that_failed(house: Any) -> None:
    BROKEN.add("b")
    app = await house.open(forked)
    handle = await app.workflow(forked, "p").start()
    await _fails(handle, ConnectionError)
    BROKEN.clear()
    await handle.retry()
    assert await handle.result() == ["a", "b", "c"]
    assert sorted(LOG) == ["a", "b", "b", "c"]


class Purse(Actor[int]):
    def initial_state(self) -> int:
        return 0

    async def put(self, amount: int) -> int:
        self.state += amount
        return self.state

    async def take(self, amount: int) -> int:
        if self.state < amount:
            raise LookupError("too little")
        self.state -= amount
        return self.state


@workflow
async def taking(ctx: Context) -> int:
    return await ctx.actor(Purse, "p").take(5)


async def test_a_call_that_failed_is_asked_again_and_not_answered_from_memory(house: Any) -> None:
    app = await house.open(taking, actors=[Purse])
    handle = await app.workflow(taking, "t").start()
    await _fails(handle, LookupError)
    await app.actor(Purse, "p").put(7)
    await handle.retry()
    assert await handle.result() == 2


@workflow
async def waiting(ctx: Context) -> str:
    await ctx.step(act)("one")
    return await ctx.wait_signal("go", str)


async def test_a_cancelled_run_waits_again_where_it_was(house: Any) -> None:
    app = await house.open(waiting)
    handle = await app.workflow(waiting, "w").start()
    await house.waits(handle, "go")
    await handle.cancel()
    await _fails(handle, WorkflowCancelledError)
    await handle.retry()
    await house.waits(handle, "go")
    await handle.signal("go", "on")
    assert await handle.result() == "on"
    assert LOG == ["one"]


@pytest.mark.parametrize("status", ["completed", "running"])
async def test_only_what_has_failed_can_be_retried(house: Any, status: str) -> None:
    app = await house.open(plain, waiting)
    handle = await (app.workflow(plain, "p") if status == "completed" else app.workflow(waiting, "w")).start()
    if status == "completed":
        await handle.result()
    with pytest.raises(CallError, match=status):
        await handle.retry()


async def test_a_crash_right_after_the_retry_was_recorded_does_not_forget_it(house: Any) -> None:
    BROKEN.add("two")
    app = await house.open(plain)
    handle = await app.workflow(plain, "p").start()
    await _fails(handle, ConnectionError)
    BROKEN.clear()
    app.host.wake_at = lambda *_: None
    await handle.retry()
    app = await house.restart(crash=True)
    async with asyncio.timeout(10):
        assert await app.workflow(plain, "p").result() == ["one", "two"]
