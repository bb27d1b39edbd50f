"""Recorded histories: the bank's transfer, recorded once and committed, against the code of today and changed code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from loom import Context, Loom, workflow
from loom.codec import PayloadCodec
from loom.errors import NonDeterminismError, RunNotFoundError
from loom.ports import JournalStore
from loom.testing import VirtualClock, export_history, replay_history

from .bank import load_bank

bank = load_bank()
RECORDED = Path(__file__).with_name("transfer_history.json")
"""Written once by ``export_history`` and never again: it must replay in every later release."""


async def test_the_recorded_transfer_still_replays() -> None:
    replay_history(RECORDED.read_text(encoding="utf-8"), bank.transfer)


async def test_export_gives_what_replays_and_shows_the_steps(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(actors=[bank.Account], workflows=[bank.transfer]) as app:
        await app.actor(bank.Account, "alice").deposit(100)
        run = await app.workflow(bank.transfer, "t-1").start("alice", "bob", 30)
        await loom_clock.run_for(60)
        waiting = await export_history(app, run)
        await run.signal("approved", True)
        await loom_clock.run_until(run.result())
        finished = await export_history(app, "transfer/t-1")
    replay_history(waiting, bank.transfer)
    replay_history(finished, bank.transfer)
    history = json.loads(finished)
    assert (history["workflow"], history["run_id"], history["format"]) == ("transfer", "t-1", 1)
    shown = [event["what"] for entry in history["entries"] for event in entry["events"]]
    assert shown == [
        event["what"] for entry in json.loads(RECORDED.read_text())["entries"] for event in entry["events"]
    ]


@workflow(name="transfer")
async def notifies_first(ctx: Context, source: str, target: str, amount: int) -> str:
    await ctx.step(bank.notify)(source, amount)
    await ctx.actor(bank.Account, source).withdraw(amount)
    return "done"


@workflow(name="transfer")
async def audits_at_the_end(ctx: Context, source: str, target: str, amount: int) -> str:
    result = await bank.transfer(ctx, source, target, amount)
    await ctx.step(bank.notify, name="audit")(source, amount)
    return str(result)


@workflow(name="transfer")
async def ends_early(ctx: Context, source: str, target: str, amount: int) -> str:
    await ctx.actor(bank.Account, source).withdraw(amount)
    return "done"


@workflow(name="transfer")
async def fails_at_the_end(ctx: Context, source: str, target: str, amount: int) -> str:
    await bank.transfer(ctx, source, target, amount)
    raise ValueError("changed my mind")


@pytest.mark.parametrize(
    ("code", "position", "recorded", "asked"),
    [
        (notifies_first, "0", "call 'actor/Account/alice.withdraw'", "step 'notify'"),
        (audits_at_the_end, "4", "the end, completed", "step 'audit'"),
        (ends_early, "1", "ResultRecorded", "the end"),
        (fails_at_the_end, "~0", "the end, completed", "call 'actor/Account/alice.deposit'"),
    ],
)
async def test_changed_code_is_told_where_it_differs(code: Any, position: str, recorded: str, asked: str) -> None:
    with pytest.raises(NonDeterminismError, match="transfer/t-1") as raised:
        replay_history(RECORDED.read_text(encoding="utf-8"), code)
    context = raised.value.context
    assert (context["position"], context["recorded"], context["asked"]) == (position, recorded, asked)


class Rate:
    value = 3


@workflow
async def counts_down(ctx: Context, left: int) -> int:
    await ctx.sleep(60)
    if left:
        ctx.continue_as_new(left - 1)
    return ctx.resource(Rate).value


@workflow(name="counts_down")
async def counts_otherwise(ctx: Context, left: int) -> int:
    await ctx.sleep(60)
    if left == 2:
        await ctx.sleep(1)
    if left:
        ctx.continue_as_new(left - 1)
    return ctx.resource(Rate).value


async def test_every_incarnation_is_replayed(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(workflows=[counts_down]) as app:
        with app.override(Rate, Rate()):
            assert await loom_clock.run_until(app.workflow(counts_down, "c").run(3)) == 3
        history = await export_history(app, "counts_down/c")
    replay_history(history, counts_down, resources={Rate: Rate()})
    with pytest.raises(NonDeterminismError, match="continue_as_new"):
        replay_history(history, counts_otherwise, resources={Rate: Rate()})


async def test_an_app_that_does_not_run_gives_histories_too(tmp_path: Path) -> None:
    app = Loom(workflows=[counts_down], url=f"sqlite:///{tmp_path}/loom.db", env="test")
    async with app:
        run = await app.workflow(counts_down, "c").start(0)
    replay_history(await export_history(app, run), counts_down)
    async with app.ports() as ports, app.client(ports=ports) as client:
        history = await export_history(cast(JournalStore, ports["journal"]), client.workflow(counts_down, "c"))
        with pytest.raises(TypeError, match=r"Client has no journal.*app\.ports"):
            await export_history(client, "counts_down/c")  # type: ignore[arg-type]
    replay_history(history, counts_down)
    with pytest.raises(RunNotFoundError, match="counts_down/other"):
        await export_history(app, "counts_down/other")


class Backwards(PayloadCodec):
    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes) -> bytes:
        return data[::-1]


async def test_a_journal_alone_is_read_by_the_codecs_that_are_given(tmp_path: Path) -> None:
    codecs = (Backwards(),)
    url = f"sqlite:///{tmp_path}/loom.db"
    app = Loom(workflows=[counts_down], url=url, env="test", payload_codecs=codecs)
    async with app:
        run = await app.workflow(counts_down, "c").start(0)
    async with app.ports() as ports:
        history = await export_history(cast(JournalStore, ports["journal"]), "counts_down/c", codecs=codecs)
    assert history == await export_history(app, run)
    replay_history(history, counts_down)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "workflow": "w", "run_id": "r", "entries": []}'])
def test_what_is_no_history_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"history"):
        replay_history(text, bank.transfer)
