"""Lines of ended runs go after ``run_retention``; what is unfinished stays, and so do the journals."""

from __future__ import annotations

from typing import Any

import pytest

from loom import Context, Loom, workflow
from loom.runtime import retention
from loom.runtime.messages import shard_of

from .place import SHARDS, Place, eventually

DAY = 86_400.0


@workflow
async def brief(ctx: Context, fail: bool = False) -> str:
    if fail:
        raise RuntimeError("it failed")
    return "done"


@workflow
async def waiting(ctx: Context) -> str:
    return str(await ctx.wait_signal("go", str))


async def sweep(app: Loom) -> int:
    """One round over all shards."""
    return sum([await app.host.retention.sweep() for _ in range(SHARDS)])


async def listed(app: Loom) -> set[str]:
    return {run.run_id for run in await app.calls.runs(limit=1000)}


async def test_ended_runs_leave_the_list_and_keep_their_results(place: Place) -> None:
    clock = place.manual()
    app = await place.open(workflows=[brief, waiting], options={"run_retention": 10 * DAY})
    for n in range(3):
        assert await app.workflow(brief, f"old-{n}").run() == "done"
    with pytest.raises(RuntimeError):
        await app.workflow(brief, "failed").run(True)
    await app.workflow(waiting, "under-way").start()
    long = await app.workflow(waiting, "long").start()
    clock.advance(9 * DAY)
    await long.signal("go", "at last")
    assert await long.result() == "at last"
    assert await app.workflow(brief, "young").run() == "done"
    await eventually(lambda: _ended(app, 6), "the lines of what has ended")
    assert await sweep(app) == 0
    clock.advance(2 * DAY)
    assert await sweep(app) == 4
    assert await listed(app) == {"under-way", "long", "young"}
    # The journal stays: the result can be read, the id stays taken, and the line does not come back.
    run = app.workflow(brief, "old-1")
    assert await run.result(timeout=10) == "done"
    assert (await run.status()).status == "completed"
    assert await app.host.pending.get(shard_of("run/brief/old-1", SHARDS), "run/brief/old-1") is None
    clock.advance(10 * DAY)
    assert await sweep(app) == 2
    assert await listed(app) == {"under-way"}


async def _ended(app: Loom, count: int) -> bool:
    return sum(run.finished_at is not None for run in await app.calls.runs(limit=1000)) >= count


async def test_a_retried_run_is_under_way_again(place: Place) -> None:
    clock = place.manual()
    app = await place.open(workflows=[brief], options={"run_retention": DAY})
    run = app.workflow(brief, "failed")
    with pytest.raises(RuntimeError):
        await run.run(True)
    await eventually(lambda: _ended(app, 1))
    clock.advance(2 * DAY)
    shard, stream = shard_of("run/brief/failed", SHARDS), "run/brief/failed"
    documents = app.host.pending._documents
    batch = documents.batch

    async def meanwhile(*arguments: Any) -> Any:
        """The run is retried between the sweep's look and its removal."""
        documents.batch = batch  # type: ignore[method-assign]
        await documents.put("pending", str(shard), stream, {"stream": stream, "status": "running", "due": clock.now()})
        return await batch(*arguments)

    documents.batch = meanwhile  # type: ignore[method-assign]
    assert await sweep(app) == 0
    assert await app.host.pending.get(shard, stream) is not None


async def test_a_sweep_is_bounded(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    clock = memory.manual()
    app = await memory.open(workflows=[brief], options={"shards": 1, "run_retention": DAY})
    for n in range(5):
        await app.workflow(brief, f"r{n}").run()
    await eventually(lambda: _ended(app, 5))
    clock.advance(2 * DAY)
    assert [await app.host.retention.sweep() for _ in range(4)] == [2, 2, 1, 0]


async def test_rounds_have_pauses(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_SHARDS", SHARDS // 2)
    clock = memory.manual()
    app = await memory.open(workflows=[brief], options={"run_retention": 100 * DAY})
    sweeper = app.host.retention
    looked: list[int] = []
    forget = app.host.pending.forget_ended

    async def forget_ended(shard: int, before: float, limit: int) -> int:
        looked.append(shard)
        return await forget(shard, before, limit)

    app.host.pending.forget_ended = forget_ended  # type: ignore[method-assign]
    assert sweeper.due
    await sweeper.sweep()
    assert sweeper.due, "the round is not over"
    await sweeper.sweep()
    assert sorted(looked) == list(range(SHARDS))
    assert not sweeper.due
    clock.advance(3599.0)
    assert not sweeper.due
    clock.advance(2.0)
    assert sweeper.due


async def test_a_host_sweeps_by_itself_and_only_its_own_shards(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(workflows=[brief], options={"run_retention": DAY, "idle_seconds": 0.01})
    await app.workflow(brief, "r").run()
    await eventually(lambda: _ended(app, 1))
    clock.advance(2 * DAY)
    app.host.placement._leaving.update(range(SHARDS))
    assert await sweep(app) == 0
    app.host.placement._leaving.clear()

    async def gone() -> bool:
        clock.advance(30.0)
        return not await listed(app)

    await eventually(gone)


async def test_a_stopped_run_is_named_once_in_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    @workflow(name="changing")
    async def first(ctx: Context) -> None:
        await ctx.step(_nothing, name="one")()
        await ctx.wait_signal("go", str)

    @workflow(name="changing")
    async def second(ctx: Context) -> None:
        await ctx.step(_nothing, name="two")()
        await ctx.wait_signal("go", str)

    app = await place.open(workflows=[first])
    run = await app.workflow(first, "c").start()

    async def waits() -> bool:
        return bool((await run.status()).waiting_for == ["signal 'go'"])

    await eventually(waits)
    await place.close(app)
    caplog.clear()
    app = await place.open(workflows=[second])

    async def stopped() -> bool:
        return (await app.workflow(second, "c").status()).status == "stopped"

    await eventually(stopped)
    told = [record.getMessage() for record in caplog.records if "run/changing/c" in record.getMessage()]
    assert told
    assert all(text.count("run/changing/c") == 1 for text in told), told


async def _nothing() -> None: ...
