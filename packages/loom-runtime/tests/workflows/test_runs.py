"""Runs from outside: ids, listings, resources, sends, and many of them waiting."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loom import Actor, Context, Loom, workflow
from loom.errors import InvalidArgumentsError, NotRunningError, RunNotFoundError

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()


async def act(number: int) -> int:
    LOG.append(number)
    return number


@workflow
async def simple(ctx: Context, number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return await ctx.step(act)(number)


@workflow
async def waiting(ctx: Context) -> str:
    return await ctx.wait_signal("go", str)


class Inbox(Actor[list[int]]):
    def initial_state(self) -> list[int]:
        return []

    async def add(self, number: int) -> None:
        self.state.append(number)

    async def read(self) -> list[int]:
        return self.state


@workflow
async def sending(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.send(ctx.actor(Inbox, "i").add, number)
    await ctx.wait_signal("go")


async def test_starting_again_gives_the_same_run(house: Any) -> None:
    app = await house.open(simple)
    await asyncio.gather(*(app.workflow(simple, "s").start(n) for n in range(20)))
    first = await app.workflow(simple, "s").result()
    assert await app.workflow(simple, "s").run(99) == first
    app = await house.restart()
    assert await app.workflow(simple, "s").run(98) == first
    assert [first] == LOG


async def test_wrong_arguments_are_refused_before_anything_is_recorded(house: Any) -> None:
    app = await house.open(simple)
    with pytest.raises(InvalidArgumentsError, match="number"):
        await app.workflow(simple, "s").start("seven")
    with pytest.raises(InvalidArgumentsError):
        await app.workflow(simple, "s").start()
    with pytest.raises(RunNotFoundError):
        await app.workflow(simple, "s").status()
    assert (await app.host.journal.head("run/simple/s")).seq == 0
    assert await app.workflow(simple, "s").run(1) == 1


async def test_listed_by_status_workflow_and_start(house: Any) -> None:
    app = await house.open(simple, waiting)
    await app.workflow(simple, "good").run(1)
    with pytest.raises(ValueError, match="negative"):
        await app.workflow(simple, "bad").run(-1)
    await app.workflow(waiting, "open").start()

    async def listed(**filters: Any) -> set[str]:
        return {run.run_id for run in await app.calls.runs(**filters)}

    async def settled() -> bool:
        return await listed(status="failed") == {"bad"} and await listed(status="completed") == {"good"}

    await house.until(settled)
    assert await listed() == {"good", "bad", "open"}
    assert await listed(workflow="waiting") == {"open"}
    assert await listed(status="running", workflow="waiting") == {"open"}
    assert await listed(since=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)) == set()
    [failed] = await app.calls.runs(status="failed")
    assert failed.error == "negative"


async def test_a_one_step_run_is_two_entries_and_two_records(house: Any) -> None:
    app = await house.open(simple)
    puts = 0

    def counting(write: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal puts
            puts += 1
            return write(*args, **kwargs)

        return counted

    app.host.pending.write = counting(app.host.pending.write)
    before = app.host.committer.appends
    assert await app.workflow(simple, "s").run(1) == 1
    await house.until(lambda: puts == 2)
    assert app.host.committer.appends - before == 2


async def test_whoever_runs_to_the_end_holds_up_no_signal(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if house.storage == "memory":
        pytest.skip("another process is needed to come through the queue")
    monkeypatch.setattr("loom.client._POLL", 3600.0)
    await house.open(waiting)
    caller, other = (Loom(workflows=[waiting], url=f"sqlite:///{house.folder}/loom.db", env="test") for _ in range(2))
    async with caller.client() as first, other.client() as second:
        ended = asyncio.ensure_future(first.workflow(waiting, "w").run())
        handle = second.workflow(waiting, "w")

        async def begun() -> bool:
            with contextlib.suppress(RunNotFoundError):
                return bool((await handle.status()).waiting_for)
            return False

        await house.until(begun)
        async with asyncio.timeout(20):
            await handle.signal("go", "on")
            assert await ended == "on"
        assert await first.workflow(waiting, "w").run() == "on", "a run that has ended gives its result at once"


async def test_a_run_that_outlives_the_wait_is_waited_for_again(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await house.open(waiting)
    monkeypatch.setattr("loom.client._POLL", 0.01)
    ended = asyncio.ensure_future(app.workflow(waiting, "w").run())
    answers = 0
    answer = app.host.answer

    def counted(*args: Any) -> None:
        nonlocal answers
        answers += 1
        answer(*args)

    app.host.answer = counted
    await house.until(lambda: answers >= 3, "the wait ends and begins anew")
    await app.workflow(waiting, "w").signal("go", "on")
    assert await ended == "on"


@pytest.mark.parametrize("crash", [False, True])
async def test_sends_arrive_once_and_in_order_whatever_happens(house: Any, crash: bool) -> None:
    app = await house.open(sending, actors=[Inbox])
    await app.workflow(sending, "s").start(10)

    async def arrived() -> bool:
        return len(await app.actor(Inbox, "i").read()) == 10

    await house.until(arrived)
    app = await house.restart(crash=crash)
    await app.workflow(sending, "s").signal("go")
    await app.workflow(sending, "s").result()
    assert await app.actor(Inbox, "i").read() == list(range(10))


class Rates:
    def __init__(self, rate: int) -> None:
        self.rate = rate


@workflow
async def priced(ctx: Context) -> int:
    return await ctx.step(act)(ctx.resource(Rates).rate)


async def test_resources_and_their_replacements(house: Any) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Rates]:
        yield Rates(3)

    app = await house.open(priced, lifespan=lifespan)
    assert await app.workflow(priced, "a").run() == 3
    with app.override(Rates, Rates(5)):
        assert await app.workflow(priced, "b").run() == 5


async def test_who_waits_for_a_result_hears_when_the_host_stops(house: Any) -> None:
    app = await house.open(waiting)
    handle = await app.workflow(waiting, "w").start()
    task = asyncio.create_task(handle.result())
    await house.until(lambda: any(cell._results for cell in app.host.cells.values()))
    async with asyncio.timeout(5):
        await house.close()
        with pytest.raises(NotRunningError):
            await task


@pytest.mark.slow
async def test_two_thousand_waiting_runs_come_back(sqlite_house: Any) -> None:
    house = sqlite_house
    app = await house.open(waiting)
    await asyncio.gather(*(app.workflow(waiting, f"w{n}").start() for n in range(2000)))
    app = await house.restart(crash=True)
    await asyncio.gather(*(app.workflow(waiting, f"w{n}").signal("go", str(n)) for n in range(0, 2000, 100)))
    for n in range(0, 2000, 100):
        assert await app.workflow(waiting, f"w{n}").result() == str(n)
