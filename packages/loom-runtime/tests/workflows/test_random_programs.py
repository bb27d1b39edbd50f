"""Random programs: live, and crashed and replayed at every entry, they end alike and run each step once."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loom import Context, workflow
from loom.runtime.entries import ResultRecorded

from .conftest import House
from .faults import Faults

RUNS: Counter[str] = Counter()

leaf = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("sleep"), st.just(0)),
    st.tuples(st.just("signal"), st.just(0)),
    st.tuples(st.just("draw"), st.just(0)),
)
programs = st.lists(
    st.recursive(
        leaf,
        lambda inner: st.tuples(st.just("gather"), st.lists(st.lists(inner, max_size=2), min_size=1, max_size=3)),
        max_leaves=5,
    ),
    min_size=1,
    max_size=4,
)


async def touch(name: str, fail: bool) -> str:
    RUNS[name] += 1
    if fail:
        raise ConnectionError(name)
    return name


@workflow
async def program(ctx: Context, code: list[Any]) -> list[Any]:
    count = 0

    async def run(block: list[Any], path: str) -> list[Any]:
        nonlocal count
        found: list[Any] = []
        for index, (what, argument) in enumerate(block):
            place = f"{path}{index}"
            if what in ("step", "fail"):
                try:
                    found.append(await ctx.step(touch)(place, what == "fail"))
                except ConnectionError as error:
                    found.append(f"failed {error}")
            elif what == "sleep":
                await ctx.sleep(0)
            elif what == "signal":
                await ctx.wait_signal("go")
            elif what == "draw":
                found.append(len(str(ctx.uuid())))
            else:
                branches = [run(branch, f"{place}.{n}/") for n, branch in enumerate(argument)]
                found.append(await ctx.gather(*branches))
        return found

    return await run(code, "")


def _steps(block: list[Any], path: str = "") -> list[str]:
    found: list[str] = []
    for index, (what, argument) in enumerate(block):
        place = f"{path}{index}"
        if what in ("step", "fail"):
            found.append(place)
        elif what == "gather":
            for n, branch in enumerate(argument):
                found += _steps(branch, f"{place}.{n}/")
    return found


def _signals(block: list[Any]) -> int:
    return sum(
        1 if what == "signal" else sum(map(_signals, argument)) if what == "gather" else 0 for what, argument in block
    )


async def _start(house: House, code: list[Any]) -> Any:
    assert house.app is not None
    handle = await house.app.workflow(program, "p").start(code)
    return handle


async def _story(folder: Path, code: list[Any], at: int, after: bool) -> tuple[Any, int]:
    RUNS.clear()
    house = House("memory", folder)
    app = await house.open(program)
    try:
        faults = Faults(at, after=after, only_entries=True).install(app)
        sent = _signals(code)

        async def live() -> Any:
            handle = await _start(house, code)
            for _ in range(sent):
                await handle.signal("go")
            return await handle.result()

        living = asyncio.create_task(live())
        freezing = asyncio.create_task(faults.frozen.wait())
        await asyncio.wait([living, freezing], return_when=asyncio.FIRST_COMPLETED)
        freezing.cancel()
        faults.remove()
        if living.done():
            return living.result(), faults.count
        await house.crash()
        living.cancel()
        await asyncio.wait([living])
        app = await house.open(program)
        handle = await _start(house, code)
        for _ in range(sent):  # more than are needed do no harm
            if (await handle.status()).status == "running":
                try:
                    await handle.signal("go")
                except Exception:
                    break
        recorded = Counter(
            event.position for entry in await house.journal("run/program/p") for event in entry
            if isinstance(event, ResultRecorded)
        )  # fmt: skip
        assert all(times == 1 for times in recorded.values())
        return await handle.result(), faults.count
    finally:
        await house.close()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(code=programs, after=st.booleans())
def test_a_crash_at_any_entry_changes_nothing(code: list[Any], after: bool) -> None:
    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            expected, entries = await _story(Path(folder), code, 0, after)
            steps = _steps(code)
            assert Counter(steps) == RUNS
            for at in range(1, entries + 1):
                result, _ = await _story(Path(folder), code, at, after)
                assert result == expected
                assert set(RUNS) == set(steps)
                # Only what was not yet recorded when the host vanished may have run again.
                assert max(RUNS.values(), default=0) <= 2

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await check()

    asyncio.run(bounded())
