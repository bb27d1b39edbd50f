"""Compensations and undo: in reverse order, for what has happened and for what may have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Actor, Context, workflow
from loom.errors import WorkflowCancelledError

LOG: list[str] = []
GATE: dict[str, asyncio.Event] = {}
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()
    BROKEN.clear()
    GATE["go"] = asyncio.Event()


async def do(what: str) -> str:
    LOG.append(what)
    if what in BROKEN:
        raise ConnectionError(what)
    if what == "hang":
        await asyncio.Event().wait()
    if what == "gated":
        await GATE["go"].wait()
    return what


async def undo(what: str) -> None:
    LOG.append(f"undo {what}")


async def broken_undo(what: str) -> None:
    raise OSError(f"can't undo {what}")


class Book(Actor[list[str]]):
    def initial_state(self) -> list[str]:
        return []

    async def write(self, line: str) -> None:
        self.state.append(line)

    async def read(self) -> list[str]:
        return self.state


@workflow
async def mixed(ctx: Context, fail: bool) -> str:
    await ctx.step(do, undo=undo)("one")
    ctx.add_compensation(ctx.actor(Book, "b").write, "taken back")
    ctx.add_compensation(undo, "plain")
    await ctx.step(do, undo=undo)("two")
    if fail:
        raise ValueError("failed")
    return await ctx.wait_signal("go", str)


@workflow
async def single(ctx: Context, what: str, timeout: float | None = None) -> None:
    await ctx.step(do, undo=undo, timeout=timeout)(what)


async def test_in_reverse_order_on_failure(house: Any) -> None:
    app = await house.open(mixed, actors=[Book])
    with pytest.raises(ValueError, match="failed"):
        await app.workflow(mixed, "m").run(True)
    assert LOG == ["one", "two", "undo two", "undo plain", "undo one"]
    assert await app.actor(Book, "b").read() == ["taken back"]


async def test_on_cancellation_too(house: Any) -> None:
    app = await house.open(mixed, actors=[Book])
    handle = await app.workflow(mixed, "m").start(False)
    await house.waits(handle, "go")
    await handle.cancel()
    with pytest.raises(WorkflowCancelledError):
        await handle.result()
    assert LOG[2:] == ["undo two", "undo plain", "undo one"]


async def test_not_on_success(house: Any) -> None:
    app = await house.open(single)
    await app.workflow(single, "s").run("fine")
    assert LOG == ["fine"]


async def test_not_for_a_step_that_is_known_to_have_failed(house: Any) -> None:
    BROKEN.add("fails")
    app = await house.open(single)
    with pytest.raises(ConnectionError):
        await app.workflow(single, "s").run("fails")
    assert LOG == ["fails"]


async def test_for_a_step_that_timed_out(house: Any) -> None:
    app = await house.open(single)
    with pytest.raises(TimeoutError):
        await app.workflow(single, "s").run("hang", 0.02)
    assert LOG == ["hang", "undo hang"]


async def test_for_a_step_that_a_crash_cut_and_that_then_fails(house: Any) -> None:
    app = await house.open(single)
    await app.workflow(single, "s").start("gated")
    await house.until(lambda: LOG)
    BROKEN.add("gated")
    app = await house.restart(crash=True)
    with pytest.raises(ConnectionError):
        await app.workflow(single, "s").result()
    assert LOG == ["gated", "gated", "undo gated"]


@workflow
async def unlucky(ctx: Context) -> None:
    ctx.add_compensation(undo, "first")
    ctx.add_compensation(broken_undo, "second")
    raise ValueError("failed")


async def test_one_that_fails_is_noted_and_the_others_run(house: Any) -> None:
    clock = house.manual()
    app = await house.open(unlucky)
    handle = await app.workflow(unlucky, "u").start()
    waiting = asyncio.create_task(handle.result())
    while not waiting.done():
        clock.advance(1)
        await asyncio.sleep(0.001)
    with pytest.raises(ValueError, match="failed") as caught:
        await waiting
    assert LOG == ["undo first"]
    assert any("can't undo second" in note for note in caught.value.__notes__)


@workflow
async def ill_typed(ctx: Context) -> int:
    ctx.add_compensation(undo, "it")
    return "no number"  # type: ignore[return-value]


async def test_a_result_of_the_wrong_type_is_a_failure_that_compensates(house: Any) -> None:
    app = await house.open(ill_typed)
    with pytest.raises(Exception, match="ill_typed"):
        await app.workflow(ill_typed, "i").run()
    assert LOG == ["undo it"]
