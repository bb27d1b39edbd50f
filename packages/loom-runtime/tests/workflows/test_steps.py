"""Steps: run, retried, timed out, remembered."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest

from loom import Context, step_info, workflow
from loom.errors import InvalidResultError, SerializationError
from loom.interceptors import StepInfo

CALLS: list[Any] = []
GATE: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    GATE.clear()


class Receipt(msgspec.Struct):
    number: int
    lines: list[str] = []


async def receipt(number: int) -> Receipt:
    CALLS.append(number)
    return Receipt(number, ["a"])


def in_thread(number: int) -> str:
    assert threading.current_thread() is not threading.main_thread()
    return f"thread {number}"


@workflow
async def typed(ctx: Context) -> int:
    got = await ctx.step(receipt)(7)
    assert isinstance(got, Receipt)
    return got.number


@workflow
async def threaded(ctx: Context) -> str:
    return await ctx.step(in_thread)(3)


async def test_a_typed_result_and_a_plain_function_in_a_thread(house: Any) -> None:
    app = await house.open(typed, threaded)
    assert await app.workflow(typed, "t").run() == 7
    assert await app.workflow(threaded, "t").run() == "thread 3"


async def flaky(fails: int) -> int:
    info = step_info()
    CALLS.append(info)
    if info.attempt <= fails:
        raise ConnectionError(f"attempt {info.attempt}")
    return info.attempt


@workflow
async def retrying(ctx: Context, fails: int, retries: int) -> int:
    return await ctx.step(flaky, retries=retries)(fails)


async def test_retries_with_growing_pauses_under_one_idempotency_key(house: Any) -> None:
    clock = house.manual()
    app = await house.open(retrying)
    handle = await app.workflow(retrying, "r").start(3, 3)
    began, pauses = clock.now(), []
    for attempt in (1, 2, 3):
        await house.until(lambda n=attempt: len(CALLS) == n)
        before = clock.now()
        while len(CALLS) == attempt:
            clock.advance(0.125)
            for _ in range(20):
                await asyncio.sleep(0)
        pauses.append(clock.now() - before)
    assert await handle.result() == 4
    assert pauses[0] < pauses[1] < pauses[2]
    assert clock.now() - began >= 0.75 * (0.5 + 1 + 2)
    assert [info.attempt for info in CALLS] == [1, 2, 3, 4]
    assert len({info.idempotency_key for info in CALLS}) == 1
    assert isinstance(CALLS[0], StepInfo)
    assert CALLS[0].stream == "run/retrying/r"


async def test_the_last_failure_is_raised_with_its_type(house: Any) -> None:
    app = await house.open(retrying)
    with pytest.raises(ConnectionError, match="attempt 1"):
        await app.workflow(retrying, "r").run(5, 0)
    assert len(CALLS) == 1


async def slow() -> None:
    CALLS.append("began")
    await asyncio.Event().wait()


@workflow
async def timed(ctx: Context) -> str:
    try:
        await ctx.step(slow, timeout=0.02)()
    except TimeoutError as error:
        return str(error)
    return "no"


async def test_a_timeout_says_that_the_outcome_is_unknown(house: Any) -> None:
    app = await house.open(timed)
    assert "outcome is unknown" in await app.workflow(timed, "t").run()


async def unstorable() -> object:
    CALLS.append("ran")
    return object()


async def wrong() -> int:
    CALLS.append("ran")
    return "no number"  # type: ignore[return-value]


@workflow
async def stores(ctx: Context, what: str) -> None:
    await ctx.step(unstorable if what == "unstorable" else wrong, retries=3)()


async def test_a_result_that_can_not_be_stored_fails_the_step_at_once(house: Any) -> None:
    app = await house.open(stores)
    with pytest.raises(SerializationError, match=r"unstorable.*object"):
        await app.workflow(stores, "1").run("unstorable")
    with pytest.raises(InvalidResultError, match="wrong"):
        await app.workflow(stores, "2").run("wrong")
    assert CALLS == ["ran", "ran"]


async def big() -> bytes:
    CALLS.append("big")
    return b"x" * 5000


@workflow
async def too_big(ctx: Context) -> str:
    try:
        await ctx.step(big)()
    except Exception as error:
        return type(error).__name__
    return "stored"


async def test_a_result_that_is_too_large_fails_the_step_and_does_not_run_it_for_ever(house: Any) -> None:
    house.options["max_message_bytes"] = 4000
    app = await house.open(too_big)
    assert await app.workflow(too_big, "1").run() == "TooLargeError"
    assert CALLS == ["big"]


def exiting() -> None:
    raise SystemExit(3)


@workflow
async def exits(ctx: Context) -> None:
    await ctx.step(exiting)()


async def test_a_step_that_exits_fails_and_the_host_goes_on(house: Any) -> None:
    app = await house.open(exits, threaded)
    with pytest.raises(RuntimeError, match="exit"):
        await app.workflow(exits, "1").run()
    assert await app.workflow(threaded, "t").run() == "thread 3"


async def first() -> str:
    CALLS.append(("first", step_info().idempotency_key))
    return "one"


async def second() -> str:
    CALLS.append(("second", step_info().idempotency_key))
    await GATE["second"].wait()
    return "two"


@workflow
async def two(ctx: Context) -> list[str]:
    return [await ctx.step(first)(), await ctx.step(second)()]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_recorded_step_never_runs_again_and_one_under_way_does_under_its_key(house: Any, crash: bool) -> None:
    GATE["second"] = asyncio.Event()
    house.options["drain_seconds"] = 0
    app = await house.open(two)
    await app.workflow(two, "x").start()
    await house.until(lambda: len(CALLS) == 2)
    app = await house.restart(crash=crash)
    await house.until(lambda: len(CALLS) == 3)
    GATE["second"].set()
    assert await app.workflow(two, "x").result() == ["one", "two"]
    assert [name for name, _ in CALLS] == ["first", "second", "second"]
    assert CALLS[1][1] == CALLS[2][1] != CALLS[0][1]


async def test_step_info_outside_a_step() -> None:
    with pytest.raises(LookupError, match="outside a step"):
        step_info()


@workflow
async def twice_awaited(ctx: Context) -> str:
    step = ctx.step(first)()
    await step
    try:
        await step
    except RuntimeError as error:
        return str(error)
    return "ran twice"


async def test_a_step_is_awaited_once(house: Any) -> None:
    app = await house.open(twice_awaited)
    assert "awaited already" in await app.workflow(twice_awaited, "1").run()


async def test_a_graceful_stop_begins_no_new_steps_and_loses_no_result(house: Any) -> None:
    GATE["second"] = asyncio.Event()

    async def release() -> None:
        await house.until(lambda: house_app.host.stopping)
        GATE["second"].set()

    app = house_app = await house.open(two_then_first)
    await app.workflow(two_then_first, "x").start()
    await house.until(lambda: len(CALLS) == 1)
    task = asyncio.create_task(release())
    app = await house.restart()
    await task
    assert await app.workflow(two_then_first, "x").result() == ["two", "one"]
    assert [name for name, _ in CALLS] == ["second", "first"]


@workflow
async def two_then_first(ctx: Context) -> list[str]:
    return [await ctx.step(second)(), await ctx.step(first)()]
