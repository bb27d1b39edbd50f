"""After an unknown outcome nothing is lost, nothing is doubled, and nobody is told a failure that may not be one."""

from __future__ import annotations

import asyncio
import random

import pytest

from loom.errors import LoomError, OutcomeUnknownError, StoreUnavailableError
from loom.ports import Append, Snapshot
from loom.testing.faults import Fault, FaultPlan

from .bank import Account
from .place import Place, eventually, journal


async def test_a_lost_ack_of_the_journal_is_found_out_and_not_repeated(place: Place) -> None:
    plan = FaultPlan().at("append_many", 2, Fault.LOST_ACK)
    app = await place.open(Account, plans={"journal": plan})
    assert await app.actor(Account, "a").deposit(1) == 1
    assert await app.actor(Account, "a").deposit(2) == 3
    assert plan.happened == [("append_many", Fault.LOST_ACK)]
    assert (await journal(app).head("actor/Account/a")).seq == 2
    assert await app.actor(Account, "a").balance() == 3


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_REQUEST, Fault.DUPLICATE, Fault.DELAY])
async def test_a_request_that_failed_is_repeated_under_its_entry_id(place: Place, fault: Fault) -> None:
    plan = FaultPlan().at("append_many", 1, fault)
    app = await place.open(Account, plans={"journal": plan})
    assert await app.actor(Account, "a").deposit(1) == 1
    assert (await journal(app).head("actor/Account/a")).seq == 1


@pytest.mark.parametrize("fault", [Fault.LOST_ACK, Fault.LOST_REQUEST])
async def test_outcome_unknown_names_the_request_and_a_retry_with_its_key_tells_the_truth(
    memory: Place, fault: Fault
) -> None:
    plan = FaultPlan()
    app = await memory.open(Account, plans={"journal": plan})
    app.host.committer._patience = 0.05
    for nth in range(1, 20):
        plan.at("append_many", nth, fault)
    with pytest.raises(OutcomeUnknownError) as caught:
        await app.actor(Account, "a", idempotency_key="k").deposit(5)
    assert caught.value.request_id == "key/deposit/k"
    assert caught.value.context["request_id"] == "key/deposit/k"
    plan.calm()
    assert await app.actor(Account, "a", idempotency_key="k").deposit(5) == 5
    assert await app.actor(Account, "a", idempotency_key="k").deposit(5) == 5
    assert await app.actor(Account, "a").balance() == 5


async def test_a_store_that_certainly_refused_is_told_as_such(memory: Place) -> None:
    plan = FaultPlan(rate=1.0, faults=[Fault.REFUSED], methods=["append_many"])
    app = await memory.open(Account, plans={"journal": plan})
    app.host.committer._patience = 0.05
    with pytest.raises(StoreUnavailableError):
        await app.actor(Account, "a").deposit(5)
    plan.calm()
    assert await app.actor(Account, "a").deposit(1) == 1


@pytest.mark.parametrize("fault", [Fault.LOST_ACK, Fault.LOST_REQUEST])
async def test_a_pending_record_that_may_not_be_there_is_written_again(place: Place, fault: Fault) -> None:
    """The caller of a turn that sends something hears nothing of a documents' connection that was cut."""
    plan = FaultPlan()
    app = await place.open(Account, plans={"documents": plan})
    plan.at("batch", 1, fault).at("batch", 2, fault)
    assert await app.actor(Account, "a").pay("b", 1) == -1
    assert plan.happened == [("batch", fault)] * 2
    await eventually(lambda: _seq(app, "b"), "the money's arrival")


async def test_a_call_through_a_queue_that_loses_acks_runs_once(place: Place) -> None:
    plan = FaultPlan().at("send_many", 1, Fault.LOST_ACK).at("send_many", 3, Fault.LOST_REQUEST)
    host = await place.open(Account)
    client_app = place.make(Account, plans={"queue": plan})
    async with client_app.client() as client:
        assert await client.actor(Account, "a").deposit(1) == 1
        assert await client.actor(Account, "a").deposit(1) == 2
    assert await host.actor(Account, "a").balance() == 2


async def test_a_client_whose_queue_would_not_say_hears_outcome_unknown(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loom.runtime import request_sender

    monkeypatch.setattr(request_sender, "_PATIENCE", 0.05)
    host = await memory.open(Account)
    plan = FaultPlan(rate=1.0, faults=[Fault.LOST_REQUEST], methods=["send_many"])
    async with memory.make(Account, plans={"queue": plan}).client() as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.actor(Account, "a", idempotency_key="k").deposit(5)
        assert caught.value.request_id == "key/deposit/k"
        plan.calm()
        assert await client.actor(Account, "a", idempotency_key="k").deposit(5) == 5
    assert await host.actor(Account, "a").balance() == 5


async def test_redelivery_is_never_answered_with_a_failure_to_read_the_journal(place: Place) -> None:
    """The first delivery committed; the second meets a journal that is down, and must not claim that it failed."""
    first = await place.open(Account)
    async with place.make(Account).client() as client:
        first.host.inbox.settle = lambda job, reply: None  # type: ignore[method-assign]  # crashes before it replies
        call = asyncio.ensure_future(client.actor(Account, "a").deposit(5))
        await eventually(lambda: _seq(first), "the commit")
        await place.crash(first)
        plan = FaultPlan(rate=1.0, faults=[Fault.REFUSED], methods=["heads"])
        second = await place.open(Account, plans={"journal": plan})
        await _expire_leases(place, second)
        await eventually(lambda: len(plan.happened) >= 1, "the activation that failed")
        assert not call.done()
        plan.calm()
        assert await call == 5
        assert await second.actor(Account, "a").balance() == 5


async def _seq(app: object, key: str = "a") -> int:
    return int((await journal(app).head(f"actor/Account/{key}")).seq)  # type: ignore[arg-type]


async def _expire_leases(place: Place, app: object) -> None:
    await place.expire_leases(app)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
async def test_random_faults_everywhere_and_the_money_is_right(memory: Place, seed: int) -> None:
    """Increments under faults of journal, queue and documents: what was acknowledged is there once, and so is what was
    unknown and then asked for again.
    """
    plans = {
        "journal": FaultPlan(seed, rate=0.15, methods=["append_many", "heads", "read", "write_snapshot", "trim"]),
        "queue": FaultPlan(seed + 1, rate=0.1, methods=["send_many", "ack", "begin"], faults=[
            Fault.REFUSED, Fault.LOST_REQUEST, Fault.DELAY, Fault.DUPLICATE]),
        "documents": FaultPlan(seed + 2, rate=0.1, methods=["batch", "get"], faults=[Fault.REFUSED, Fault.LOST_ACK]),
    }  # fmt: skip
    rates = {name: plan._rate for name, plan in plans.items()}
    for plan in plans.values():
        plan._rate = 0.0
    app = await memory.open(Account, plans=plans, options={"snapshot_every": 5, "retain_entries": 3})
    for name, plan in plans.items():
        plan._rate = rates[name]
    app.host.committer._patience = 0.3
    dice = random.Random(seed)
    keys = ["a", "b", "c"]
    told: dict[str, int] = dict.fromkeys(keys, 0)
    sent = 0

    async def increment(number: int, caller: object) -> None:
        nonlocal sent
        key, amount = dice.choice(keys), dice.randint(1, 9)
        pays = dice.random() < 0.3
        for _ in range(60):
            reference = caller.actor(Account, key, idempotency_key=f"k{number}")  # type: ignore[attr-defined]
            try:
                await (reference.pay("sink", amount) if pays else reference.deposit(amount))
            except LoomError:
                await asyncio.sleep(0.01)
                continue
            told[key] += -amount if pays else amount
            sent += amount if pays else 0
            return
        pytest.fail(f"request {number} never got through: {[p.happened[-5:] for p in plans.values()]}")

    await asyncio.gather(*(increment(n, app) for n in range(60)))
    for plan in plans.values():
        plan.calm()
    for key in keys:
        assert await app.actor(Account, key).balance() == told[key]

    async def arrived() -> bool:
        return bool(await app.actor(Account, "sink").balance() == sent)

    await eventually(arrived, f"{sent} sent")
    assert await app.actor(Account, "sink").balance() == sent


async def test_an_entry_that_was_trimmed_before_its_outcome_was_known_stays_unknown(memory: Place) -> None:
    """The append took effect, its answer was lost, and another owner went on, snapshotted and trimmed meanwhile."""
    plan = FaultPlan().at("append_many", 1, Fault.LOST_ACK)
    app = await memory.open(Account, plans={"journal": plan})
    other = journal(await memory.open(Account))
    call = asyncio.ensure_future(app.actor(Account, "a").deposit(5))
    await eventually(lambda: plan.happened)
    head = await other.head("actor/Account/a")
    await other.append(Append("actor/Account/a", head.seq, head.entry_id, "theirs", b"\x90", head.fence))
    await other.write_snapshot("actor/Account/a", Snapshot(2, b"theirs"))
    await other.trim("actor/Account/a", 2)
    with pytest.raises(OutcomeUnknownError):
        await call


@pytest.mark.parametrize("first", [Fault.LOST_ACK, Fault.LOST_REQUEST])
async def test_certain_refusals_after_an_unknown_one_make_nothing_certain(memory: Place, first: Fault) -> None:
    plan = FaultPlan().at("append_many", 1, first)
    for nth in range(2, 20):
        plan.at("append_many", nth, Fault.REFUSED)
    app = await memory.open(Account, plans={"journal": plan})
    app.host.committer._patience = 0.05
    with pytest.raises(OutcomeUnknownError):
        await app.actor(Account, "a").deposit(5)
    plan.calm()
    assert await app.actor(Account, "a").balance() == (5 if first is Fault.LOST_ACK else 0)


async def test_a_request_that_can_not_be_given_back_at_once_is_given_back_soon(place: Place) -> None:
    """Not only when its lease is over, half a minute later: the queue was full for a moment."""
    plan = FaultPlan().at("begin", 1, Fault.REFUSED)
    for nth in (1, 2, 3):
        plan.at("nack", nth, Fault.REFUSED)
    await place.open(Account, plans={"queue": plan})
    async with place.make(Account).client() as client, asyncio.timeout(10):
        assert await client.actor(Account, "a").deposit(1) == 1
    assert [what for what, _ in plan.happened] == ["begin", "nack", "nack", "nack"]


@pytest.mark.slow
async def test_a_request_that_can_not_be_acked_for_a_while_holds_up_its_actor_no_longer(place: Place) -> None:
    plan = FaultPlan()
    await place.open(Account, plans={"queue": plan})
    async with place.make(Account).client() as client, asyncio.timeout(15):
        for nth in range(1, 9):
            plan.at("ack", nth, Fault.REFUSED)
        assert await client.actor(Account, "a").deposit(1) == 1
        assert await client.actor(Account, "a").deposit(1) == 2
    assert [what for what, _ in plan.happened] == ["ack"] * 8
