"""Months in milliseconds: the clock jumps where nothing but time is waited for, and says so where time can't help."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from loom import Actor, Context, workflow
from loom.testing import NothingDueError, VirtualClock
from loom.testing.app import memory_adapters, memory_app

MONTH = 30 * 86_400.0


class Flaky(msgspec.Struct):
    failures: int = 0
    done: int = 0


ATTEMPTS: dict[str, int] = {}


class Counter(Actor[Flaky]):
    async def bump(self) -> int:
        self.state.done += 1
        return self.state.done

    async def stumble(self) -> None:
        ATTEMPTS[self.key] = ATTEMPTS.get(self.key, 0) + 1
        if ATTEMPTS[self.key] < 3:
            raise ConnectionError("not yet")
        self.state.done += 1

    async def count(self) -> int:
        return self.state.done


@workflow
async def trial(ctx: Context) -> int:
    began = ctx.now
    await ctx.sleep(MONTH)
    return (ctx.now - began).days


@workflow
async def monthly(ctx: Context, left: int) -> str:
    await ctx.sleep(MONTH)
    if left > 1:
        ctx.continue_as_new(left - 1)
    return "a year"


@workflow
async def asks(ctx: Context) -> str:
    return await ctx.wait_signal("answer", str)


@workflow
async def asks_for_a_day(ctx: Context) -> str:
    try:
        return await ctx.wait_signal("answer", str, timeout=86_400)
    except TimeoutError:
        return "nobody"


async def slow_world() -> str:
    await asyncio.sleep(0.15)
    return "slow"


def thread_world() -> str:
    time.sleep(0.1)
    return "thread"


@workflow
async def races(ctx: Context) -> list[Any]:
    return await ctx.gather(ctx.step(slow_world)(), ctx.step(thread_world)(), asks_for_a_day(ctx))


async def fails_twice(key: str) -> str:
    ATTEMPTS[key] = ATTEMPTS.get(key, 0) + 1
    if ATTEMPTS[key] < 4:
        raise ConnectionError("not yet")
    return "there"


@workflow
async def retries(ctx: Context, key: str) -> str:
    return await ctx.step(fails_twice, retries=10)(key)


@workflow
async def sends_and_sleeps(ctx: Context, key: str) -> int:
    ctx.send(ctx.actor(Counter, key).stumble)
    await ctx.sleep(MONTH)
    return await ctx.actor(Counter, key).count()


async def test_a_month_takes_milliseconds(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[trial]) as app:
        before = loom_clock.now()
        run = await app.workflow(trial, "t").start()
        assert await loom_clock.run_until(run.result()) == 30
        assert MONTH <= loom_clock.now() - before < MONTH + 5


async def test_a_year_of_continuations(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[monthly]) as app:
        assert await loom_clock.run_until(app.workflow(monthly, "m").run(12)) == "a year"


async def test_waiting_for_a_signal_for_ever_is_an_error_that_names_it(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[asks, trial]) as app:
        run = await app.workflow(asks, "who").start()
        await app.workflow(trial, "beside").start()
        with pytest.raises(NothingDueError, match=r"(?s)for ever.*asks/who waits for: .*answer"):
            await loom_clock.run_until(run.result())
        await run.signal("answer", "me")
        assert await run.result() == "me"


async def test_a_signal_timeout_comes_by_itself(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[asks_for_a_day]) as app:
        assert await loom_clock.run_until(app.workflow(asks_for_a_day, "d").run()) == "nobody"


async def test_time_stands_while_a_step_runs(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[races]) as app:
        run = await app.workflow(races, "r").start()

        async def answer() -> list[Any]:
            await asyncio.sleep(0.05)
            await run.signal("answer", "in time")
            found: list[Any] = await run.result()
            return found

        assert await loom_clock.run_until(answer()) == ["slow", "thread", "in time"]


async def test_pauses_between_retries_are_jumped(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[retries]) as app:
        assert await loom_clock.run_until(app.workflow(retries, "r").run("pauses")) == "there"


async def test_a_message_that_is_tried_again_is_not_overtaken(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[sends_and_sleeps], actors=[Counter]) as app:
        assert await loom_clock.run_until(app.workflow(sends_and_sleeps, "s").run("c")) == 1


async def test_run_for_stops_on_the_way(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[trial]) as app:
        run = await app.workflow(trial, "t").start()
        await loom_clock.run_for(MONTH - 60)
        assert (await run.status()).status == "running"
        await loom_clock.run_for(120)
        assert (await run.status()).status == "completed"


async def test_an_endless_loop_ends_by_real_time(loom_app: Any, loom_clock: VirtualClock) -> None:
    @workflow
    async def pulse(ctx: Context) -> None:
        while True:
            await ctx.sleep(1)

    async with loom_app(workflows=[pulse]) as app:
        run = await app.workflow(pulse, "p").start()
        with pytest.raises(NothingDueError, match=r"0\.5 s of real time"):
            await loom_clock.run_until(run.result(), timeout=0.5)
        await run.cancel()


async def test_a_run_survives_a_restart_on_the_same_memory() -> None:
    clock = VirtualClock()
    adapters = memory_adapters(clock)
    async with memory_app(workflows=[trial], clock=clock, adapters=adapters) as app:
        await app.workflow(trial, "t").start()
        await clock.run_for(10 * 86_400)
    async with memory_app(workflows=[trial], clock=clock, adapters=adapters) as app:
        assert await clock.run_until(app.workflow(trial, "t").result()) == 30


async def test_errors_of_what_is_awaited_come_through(loom_clock: VirtualClock) -> None:
    async def fails() -> None:
        await loom_clock.sleep(5)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await loom_clock.run_until(fails())


def test_it_needs_no_async_plugin(loom_app: Any, loom_clock: VirtualClock) -> None:
    async def body() -> int:
        async with loom_app(workflows=[trial]) as app:
            return int(await loom_clock.run_until(app.workflow(trial, "t").run()))

    assert asyncio.run(body()) == 30


class Sleeper(Actor[Flaky]):
    async def wake_me(self, seconds: float) -> None:
        self.ctx.remind("wake", seconds, self.woken)

    async def woken(self) -> None:
        self.state.done += 1

    async def times(self) -> int:
        return self.state.done


@workflow
async def family(ctx: Context) -> int:
    return int(await ctx.workflow(trial, "t").run())


async def never() -> None:
    await asyncio.Event().wait()


@workflow
async def hangs(ctx: Context) -> None:
    await ctx.step(never)()


async def test_children_and_their_sleep(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[family, trial]) as app:
        assert await loom_clock.run_until(app.workflow(family, "f").run()) == 30


async def test_reminders_come(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(actors=[Sleeper]) as app:
        sleeper = app.actor(Sleeper, "s")
        await sleeper.wake_me(MONTH)
        await loom_clock.run_for(MONTH - 10)
        assert await sleeper.times() == 0
        await loom_clock.run_for(20)
        assert await sleeper.times() == 1


async def test_a_step_that_never_ends_is_an_error_that_names_it(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[hangs], options={"drain_seconds": 0, "shards": 8}) as app:
        run = await app.workflow(hangs, "h").start()
        with pytest.raises(NothingDueError, match=r"(?s)time stands meanwhile.*hangs/h waits for: step never"):
            await loom_clock.run_until(run.result(), timeout=0.3)
