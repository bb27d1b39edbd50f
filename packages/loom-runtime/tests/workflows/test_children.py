"""Children: started, awaited, failing, cancelled, and outliving a parent that is down."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from loom import Context, workflow
from loom.errors import InvalidArgumentsError, WorkflowCancelledError
from loom.runtime.entries import ResultRecorded, RunFinished


class Broken(Exception): ...


@workflow
async def child(ctx: Context, number: int) -> int:
    if number < 0:
        raise Broken(f"no {number}")
    if number > 100:
        return await ctx.wait_signal("go", int)
    return number * 2


@workflow
async def parent(ctx: Context, number: int, child_id: str = "c") -> int:
    return int(await ctx.workflow(child, child_id).run(number))


@workflow
async def starter(ctx: Context) -> int:
    run = await ctx.workflow(child, "c").start(200)
    await ctx.sleep(0)
    run.signal("go", 5)
    return int(await run.result())


async def test_a_child_gives_its_result(house: Any) -> None:
    app = await house.open(parent, child, starter)
    assert await app.workflow(parent, "p").run(4) == 8
    assert await app.workflow(starter, "s").run() == 8  # "c" exists: the same run, the same result


async def test_start_signal_and_result_apart(house: Any) -> None:
    app = await house.open(starter, child)
    assert await app.workflow(starter, "s").run() == 5


async def test_a_failure_reaches_the_parent_with_its_type(house: Any) -> None:
    app = await house.open(parent, child)
    with pytest.raises(Broken, match="no -1"):
        await app.workflow(parent, "p").run(-1)


async def test_wrong_arguments_fail_the_parent_instead_of_leaving_it_waiting(house: Any) -> None:
    @workflow
    async def careless(ctx: Context) -> int:
        return int(await ctx.workflow(child, "c").run("seven"))

    app = await house.open(careless, child)
    async with asyncio.timeout(5):
        with pytest.raises(InvalidArgumentsError):
            await app.workflow(careless, "p").run()


@workflow
async def lingering(ctx: Context) -> int:
    result = int(await ctx.workflow(child, "c").run(4))
    return result + await ctx.wait_signal("go", int)


async def test_an_outcome_that_comes_again_after_a_crash_is_recorded_once(house: Any) -> None:
    """The host died after the entry and before the ack, so the queue gives the message once more."""
    app = await house.open(lingering, child)
    handle = await app.workflow(lingering, "p").start()
    await house.waits(handle, "signal")
    [finished] = [e for entry in await house.journal("run/child/c") for e in entry if isinstance(e, RunFinished)]
    app = await house.restart(crash=True)
    handle = app.workflow(lingering, "p")
    await house.waits(handle, "signal")
    again = msgspec.structs.replace(finished.outgoing[0])
    await app.host.router.call(again, timeout=10)
    await handle.signal("go", 1)
    assert await handle.result() == 9
    events = [event for entry in await house.journal("run/lingering/p") for event in entry]
    assert [e.kind for e in events if isinstance(e, ResultRecorded)] == ["child"]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_parent_restarts_while_its_child_runs(house: Any, crash: bool) -> None:
    app = await house.open(parent, child)
    handle = await app.workflow(parent, "p").start(200)
    await house.waits(app.workflow(parent, "p"), "child")
    await house.until(lambda: "run/child/c" in app.host.cells)
    await house.waits(app.workflow(child, "c"), "signal")
    app = await house.restart(crash=crash)
    await app.workflow(child, "c").signal("go", 9)
    handle = app.workflow(parent, "p")
    assert await handle.result() == 9


async def test_a_child_finishes_while_its_parent_has_no_code_here(house: Any, monkeypatch: Any) -> None:
    # A message that a stopping host was about to give back comes again when its lease ends.
    monkeypatch.setattr("loom.runtime.inbox.LEASE", 1.0)
    app = await house.open(parent, child)
    await app.workflow(parent, "p").start(200)
    await house.until(lambda: "run/child/c" in app.host.cells)
    await house.waits(app.workflow(child, "c"), "signal")
    await house.close()
    app = await house.open(child)
    await app.workflow(child, "c").signal("go", 9)
    assert await app.workflow(child, "c").result() == 9
    for _ in range(5):  # more often than a crash may be repeated
        app = await house.restart()
    await house.close()
    app = await house.open(parent, child)
    assert await app.workflow(parent, "p").result() == 9


async def test_two_parents_of_one_child_both_hear(house: Any) -> None:
    app = await house.open(parent, child)
    one = await app.workflow(parent, "p1").start(200)
    two = await app.workflow(parent, "p2").start(200)
    await house.waits(one, "child")
    await house.waits(two, "child")
    await house.until(lambda: "run/child/c" in app.host.cells)
    await house.waits(app.workflow(child, "c"), "signal")
    await app.workflow(child, "c").signal("go", 3)
    assert [await one.result(), await two.result()] == [3, 3]


async def test_cancelling_a_parent_cancels_the_child_that_it_awaits(house: Any) -> None:
    app = await house.open(parent, child)
    handle = await app.workflow(parent, "p").start(200)
    await house.waits(handle, "child")
    await house.until(lambda: "run/child/c" in app.host.cells)
    assert await handle.cancel("enough")
    with pytest.raises(WorkflowCancelledError):
        await handle.result()
    with pytest.raises(WorkflowCancelledError):
        await app.workflow(child, "c").result()
    assert (await handle.status()).status == "cancelled"


async def test_a_late_child_of_an_earlier_incarnation_is_not_taken_for_a_new_one(house: Any) -> None:
    @workflow
    async def renewing(ctx: Context, turn: int) -> int:
        run = await ctx.workflow(child, f"c{turn}").start(200)
        if turn == 0:
            ctx.continue_as_new(1)
        return int(await run.result())

    app = await house.open(renewing, child)
    handle = await app.workflow(renewing, "r").start(0)
    await house.waits(handle, "child run/child/c1")
    for turn in (0, 1):
        await house.until(lambda turn=turn: f"run/child/c{turn}" in app.host.cells)
        await app.workflow(child, f"c{turn}").signal("go", turn)
    assert await handle.result() == 1
