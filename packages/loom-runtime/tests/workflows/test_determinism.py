"""What a workflow may not do, and what happens when code and journal differ."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Context, workflow
from loom.errors import NonDeterminismError

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()


async def nap() -> None:
    return None


async def act(what: str) -> str:
    LOG.append(what)
    return what


@workflow
async def forbidden(ctx: Context, what: str) -> None:
    if what == "create_task":
        await asyncio.create_task(nap())
    elif what == "TaskGroup":
        async with asyncio.TaskGroup():
            pass
    elif what == "sleep":
        await asyncio.sleep(1)
    elif what == "sleep(0)":
        await asyncio.sleep(0)
    elif what == "gather":
        await asyncio.gather(nap(), nap())
    elif what == "timeout":
        async with asyncio.timeout(1):  # noqa: ASYNC100
            pass
    elif what == "to_thread":
        await asyncio.to_thread(print)


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("create_task", r"ctx\.gather"),
        ("TaskGroup", r"ctx\.gather"),
        ("sleep", r"ctx\.sleep"),
        ("sleep(0)", r"ctx\.sleep"),
        ("gather", r"ctx\.gather"),
        ("timeout", r"timeout= of ctx\.step"),
        ("to_thread", r"ctx\.step"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'nap' was never awaited")
async def test_asyncio_in_a_workflow_is_refused_with_the_replacement(house: Any, what: str, instead: str) -> None:
    app = await house.open(forbidden)
    with pytest.raises(NonDeterminismError, match=instead):
        await app.workflow(forbidden, "f").run(what)


@workflow(name="flow")
async def original(ctx: Context) -> str:
    await ctx.step(act)("one")
    return await ctx.wait_signal("go", str)


@workflow(name="flow")
async def sleeps_instead(ctx: Context) -> str:
    await ctx.sleep(1)
    return await ctx.wait_signal("go", str)


@workflow(name="flow")
async def ends_early(ctx: Context) -> str:
    return "early"


@workflow(name="flow")
async def uses_asyncio(ctx: Context) -> str:
    await asyncio.sleep(1)
    return ""


@pytest.mark.parametrize("wrong", [sleeps_instead, ends_early, uses_asyncio])
async def test_a_run_whose_code_differs_is_stopped_and_goes_on_with_the_right_code(house: Any, wrong: Any) -> None:
    app = await house.open(original)
    handle = await app.workflow(original, "d").start()
    await house.waits(handle, "go")
    before = await house.journal("run/flow/d")
    for _ in range(4):  # more often than a crash may be repeated
        app = await house.restart(wrong)
        handle = app.workflow(wrong, "d")
        with pytest.raises(NonDeterminismError):
            await handle.result()
        with pytest.raises(NonDeterminismError):
            await handle.signal("go", "x")
        status = await handle.status()
        assert status.status == "stopped"
        assert status.error
        assert await house.journal("run/flow/d") == before
    app = await house.restart(original)
    handle = app.workflow(original, "d")
    await house.waits(handle, "go")
    await handle.signal("go", "right")
    assert await handle.result() == "right"
    assert LOG == ["one"]


async def test_the_error_names_position_recorded_and_asked(house: Any) -> None:
    app = await house.open(original)
    await house.waits(await app.workflow(original, "d").start(), "go")
    app = await house.restart(sleeps_instead)
    with pytest.raises(NonDeterminismError) as caught:
        await app.workflow(sleeps_instead, "d").result()
    assert caught.value.context["position"] == "0"
    assert "step 'act'" in caught.value.context["recorded"]
    assert "sleep" in caught.value.context["asked"]


@workflow(name="versioned")
async def versioned_old(ctx: Context) -> list[str]:
    found = [await ctx.step(act)("old")]
    await ctx.wait_signal("go")
    return found


@workflow(name="versioned")
async def versioned_new(ctx: Context) -> list[str]:
    found = [await ctx.step(act)("new" if ctx.version("change") else "old")]
    await ctx.wait_signal("go")
    found.append("new" if ctx.version("change") else "old")
    return found


@workflow(name="versioned")
async def versioned_newest(ctx: Context) -> list[str]:
    found = [await ctx.step(act)("new" if ctx.version("change", 2) else "old")]
    await ctx.wait_signal("go")
    found.append(str(ctx.version("change", 2)))
    return found


async def test_versions_for_runs_of_before_and_after_a_change(house: Any) -> None:
    app = await house.open(versioned_old)
    await house.waits(await app.workflow(versioned_old, "old").start(), "go")
    app = await house.restart(versioned_new)
    await house.waits(await app.workflow(versioned_new, "new").start(), "go")
    await app.workflow(versioned_new, "old").signal("go")
    assert await app.workflow(versioned_new, "old").result() == ["old", "old"]
    app = await house.restart(crash=True)
    await app.workflow(versioned_new, "new").signal("go")
    assert await app.workflow(versioned_new, "new").result() == ["new", "new"]
    assert LOG == ["old", "new"]


async def test_a_run_marked_by_newer_code_is_stopped_not_failed(house: Any) -> None:
    app = await house.open(versioned_newest)
    await house.waits(await app.workflow(versioned_newest, "n").start(), "go")
    app = await house.restart(versioned_new)
    with pytest.raises(NonDeterminismError, match="newer code"):
        await app.workflow(versioned_new, "n").signal("go")
    app = await house.restart(versioned_newest)
    await app.workflow(versioned_newest, "n").signal("go")
    assert await app.workflow(versioned_newest, "n").result() == ["new", "2"]


@workflow
async def drawing(ctx: Context) -> list[Any]:
    drawn = [ctx.random.random(), str(ctx.uuid()), ctx.now.isoformat()]
    ctx.logger.warning("drawn")
    ctx.publish("drawn", drawn)
    await ctx.wait_signal("go")
    return drawn


async def test_now_random_uuid_and_logger_are_the_same_in_a_replay(house: Any, caplog: Any) -> None:
    app = await house.open(drawing)
    handle = await app.workflow(drawing, "r").start()
    drawn = await handle.get("drawn")
    app = await house.restart(crash=True)
    handle = app.workflow(drawing, "r")
    assert await handle.get("drawn") == drawn
    await handle.signal("go")
    assert await handle.result() == drawn
    assert [r.message for r in caplog.records if r.name == "loom.workflow"] == ["drawn"]
    app = await house.restart()
    assert await app.workflow(drawing, "r").get("drawn") == drawn
    with pytest.raises(LookupError, match="drawn"):
        await app.workflow(drawing, "r").get("other")
