"""A host that ends anywhere between a commit and its ack loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from loom import Actor, Loom
from loom.runtime.actor_cell import ActorCell
from loom.runtime.crashpoints import CRASH_POINTS
from loom.runtime.messages import shard_of
from loom.runtime.pending import PendingRecord

from .bank import Account
from .place import SHARDS, Place, eventually, journal

POINTS = [point for point in CRASH_POINTS if point.startswith(("append", "turn", "outbox"))]


class Crash(BaseException):
    """Stands for the end of the process."""


def freeze_at(monkeypatch: pytest.MonkeyPatch, app: Loom, point: str, nth: int = 1) -> asyncio.Event:
    """From the nth passage of ``point`` on the host does nothing durable any more, as if it were gone."""
    from loom.runtime import actor_commit, actor_state, actor_turn, committer, inbox, outbox

    reached = asyncio.Event()
    left = nth

    def passing(name: str) -> None:
        nonlocal left
        if name == point and not reached.is_set():
            left -= 1
            if left == 0:
                reached.set()
                raise Crash(name)
        if reached.is_set():
            raise Crash(name)

    for module in (actor_commit, actor_state, actor_turn, committer, inbox, outbox):
        monkeypatch.setattr(module, "crash_point", passing)
    for port in (app.host.journal, app.host.queue, app.host.pending._documents):
        for name in (
            "append_many",
            "write_snapshot",
            "trim",
            "send_many",
            "ack",
            "nack",
            "dead_letter",
            "batch",
            "begin",
        ):
            inner = getattr(port, name, None)
            if inner is not None:
                monkeypatch.setattr(port, name, _gone(inner, reached))
    return reached


def _gone(inner: Any, reached: asyncio.Event) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if reached.is_set():
            await asyncio.Event().wait()
        return await inner(*args, **kwargs)

    return call


@pytest.mark.parametrize("point", POINTS)
async def test_a_queued_payment_survives_a_crash_anywhere(
    place: Place, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await place.open(Account)
    async with place.make(Account).client() as client:
        await client.actor(Account, "a").deposit(100)
        reached = freeze_at(monkeypatch, first, point)
        call = asyncio.ensure_future(client.actor(Account, "a").pay("b", 30))
        if point == "turn.pending":  # only local calls need one
            assert await call == 70
        else:
            await asyncio.wait_for(reached.wait(), 20)
        monkeypatch.undo()
        await place.crash(first)
        second = await place.open(Account)
        await place.expire_leases(second)
        assert await call == 70
        await eventually(lambda: _is(second, "b", 30), "the deposit")
        assert await second.actor(Account, "a").balance() == 70
        assert await second.actor(Account, "b").balance() == 30


@pytest.mark.parametrize("point", POINTS)
async def test_a_local_payment_is_whole_or_absent_after_a_crash(
    place: Place, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await place.open(Account)
    await first.actor(Account, "a").deposit(100)
    reached = freeze_at(monkeypatch, first, point)
    call = asyncio.ensure_future(first.actor(Account, "a").pay("b", 30))
    if point == "turn.replied":
        await call
    else:
        await asyncio.wait_for(reached.wait(), 20)
    call.cancel()
    monkeypatch.undo()
    await place.crash(first)
    second = await place.open(Account)
    await place.expire_leases(second)
    left = await second.actor(Account, "a").balance()
    assert left == (100 if point in ("append.before", "turn.begin", "turn.handled", "turn.pending") else 70)
    await eventually(lambda: _is(second, "b", 100 - left), "the deposit")
    await second.actor(Account, "b").deposit(0)
    assert await second.actor(Account, "b").balance() == 100 - left


async def _is(app: Loom, key: str, amount: int) -> bool:
    return bool(await app.actor(Account, key).balance() == amount)


async def test_unsent_messages_leave_before_newer_ones(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await place.open(Account)
    reached = freeze_at(monkeypatch, first, "turn.committed")
    call = asyncio.ensure_future(first.actor(Account, "a").tell("b", texts=["1", "2"]))
    await asyncio.wait_for(reached.wait(), 20)
    call.cancel()
    monkeypatch.undo()
    await place.crash(first)
    # Nobody scans the shard before the next call comes: the call itself has to send what is old first.
    second = place.make(Account)
    monkeypatch.setattr("loom.runtime.recovery.Recovery.recover", _nothing)
    await second.__aenter__()
    place.apps.append(second)
    await second.actor(Account, "a").tell("b", texts=["3"])

    async def complete() -> bool:
        return len(await second.actor(Account, "b").notes()) == 3

    await eventually(complete)
    assert await second.actor(Account, "b").notes() == ["1", "2", "3"]


async def _nothing(self: Any, shards: list[int]) -> None:
    return None


async def test_the_pending_record_goes_when_the_messages_are_queued(place: Place) -> None:
    app = await place.open(Account)
    await app.actor(Account, "a").pay("b", 5)
    shard = shard_of("actor/Account/a", SHARDS)

    async def gone() -> bool:
        return await app.host.pending.get(shard, "actor/Account/a") is None

    await eventually(gone)
    stale = PendingRecord(stream="actor/Account/a", due=1.0)
    await app.host.pending.put(shard, stale)
    await place.close(app)
    again = await place.open(Account)
    await eventually(lambda: _absent(again, shard))
    assert await again.actor(Account, "a").balance() == -5


async def _absent(app: Loom, shard: int) -> bool:
    return await app.host.pending.get(shard, "actor/Account/a") is None


async def test_an_expired_request_that_was_committed_still_sends(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is long gone and the request too old to run; what its turn promised still has to leave."""
    clock = memory.manual()
    first = await memory.open(Account)
    async with memory.make(Account).client() as client:
        reached = freeze_at(monkeypatch, first, "turn.committed")
        call = asyncio.ensure_future(client.actor(Account, "a").pay("b", 30))
        await asyncio.wait_for(reached.wait(), 20)
        monkeypatch.undo()
        await memory.crash(first)
        clock.advance(3_600.0)
        second = await memory.open(Account)

        async def arrived() -> bool:
            clock.advance(0.1)
            return await _is(second, "b", 30)

        await eventually(arrived)
        call.cancel()


class Log(msgspec.Struct):
    lines: list[str] = []


EFFECTS: list[str] = []


async def charge(what: str) -> str:
    EFFECTS.append(what)
    return f"charged {what}"


def plain(what: str) -> int:
    EFFECTS.append(what)
    return len(what)


class Shop(Actor[Log]):
    async def buy(self, what: str, account: str) -> str:
        before = await self.ctx.actor(Account, account).deposit(1)
        receipt = await self.ctx.step(charge)(what)
        after = await self.ctx.actor(Account, account).deposit(1)
        length = await self.ctx.step(plain, name="measure")(what)
        self.state.lines.append(f"{before} {receipt} {after} {length}")
        return self.state.lines[-1]

    async def both(self) -> list[Any]:
        found = await asyncio.gather(self.ctx.step(charge)("x"), self.ctx.step(plain)("yy"), self.ctx.step(charge)("z"))
        self.state.lines.append("both")
        return list(found)

    async def lines(self) -> list[str]:
        return self.state.lines


@pytest.fixture(autouse=True)
def _no_effects() -> None:
    EFFECTS.clear()


async def test_steps_are_memoised_and_typed(place: Place) -> None:
    app = await place.open(Shop, Account)
    assert await app.actor(Shop, "s").buy("tea", "a") == "1 charged tea 2 3"
    assert EFFECTS == ["tea", "tea"]


async def test_steps_may_run_side_by_side(place: Place) -> None:
    app = await place.open(Shop)
    assert await app.actor(Shop, "s").both() == ["charged x", 2, "charged z"]
    assert await app.actor(Shop, "s").lines() == ["both"]
    assert sorted(EFFECTS) == ["x", "yy", "z"]


async def crash_after_append(place: Place, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop whose host ends right after the nth append of its turn."""
    first = await place.open(Shop, Account)
    counted = 0
    inner = first.host.committer.append
    reached = asyncio.Event()

    async def append(entry: Any) -> Any:
        nonlocal counted
        if reached.is_set():
            await asyncio.Event().wait()
        done = await inner(entry)
        if entry.stream.startswith("actor/Shop"):
            counted += 1
            if counted == nth:
                reached.set()
                await asyncio.Event().wait()
        return done

    monkeypatch.setattr(first.host.committer, "append", append)
    call = asyncio.ensure_future(first.actor(Shop, "s").buy("tea", "a"))
    await asyncio.wait_for(reached.wait(), 20)
    call.cancel()
    monkeypatch.undo()
    await place.crash(first)


@pytest.mark.parametrize("nth", range(1, 6))
async def test_a_turn_with_steps_is_finished_after_a_crash(
    place: Place, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashes after each of its appends. Recorded steps and calls are not repeated, and nothing is lost."""
    await crash_after_append(place, nth, monkeypatch)
    second = await place.open(Shop, Account)

    async def finished() -> bool:
        return bool(await second.actor(Shop, "s").lines())

    await eventually(finished)
    assert await second.actor(Shop, "s").lines() == ["1 charged tea 2 3"]
    assert await second.actor(Account, "a").balance() == 2
    assert len(EFFECTS) <= 3


@pytest.mark.parametrize("nth", range(1, 6))
async def test_it_is_finished_hours_later_without_calling_twice(
    place: Place, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the account went on elsewhere, and forgot in its snapshots what it no longer had to remember."""
    clock = place.manual()
    place.options |= {"snapshot_every": 1, "retain_entries": 1}
    await crash_after_append(place, nth, monkeypatch)
    clock.advance(4 * 3_600.0)
    elsewhere = await place.open(Account)
    balance = await elsewhere.actor(Account, "a").deposit(0)
    assert balance == (1 if nth < 3 else 2)
    await elsewhere.actor(Account, "a").deposit(0)
    await place.close(elsewhere)
    last = await place.open(Shop, Account)

    async def finished() -> bool:
        return bool(await last.actor(Shop, "s").lines())

    await eventually(finished)
    assert await last.actor(Shop, "s").lines() == ["1 charged tea 2 3"]
    assert await last.actor(Account, "a").balance() == 2


async def test_a_call_whose_answer_was_not_recorded_is_answered_hours_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes after the second call has taken effect and before its answer is in the caller's journal."""
    clock = place.manual()
    place.options |= {"snapshot_every": 1, "retain_entries": 1}
    first = await place.open(Shop, Account)
    reached = asyncio.Event()

    async def record(turn: Any, step: Any = None) -> None:
        if step is not None and step.name.startswith("call"):
            reached.set()
            await asyncio.Event().wait()
        await inner(turn, step)

    await first.actor(Shop, "s").lines()
    cell: Any = first.host.cells["actor/Shop/s"]
    monkeypatch.setattr(type(cell), "record", lambda self, turn, step=None: record(turn, step))
    inner = _original_record.__get__(cell)
    call = asyncio.ensure_future(first.actor(Shop, "s").buy("tea", "a"))
    await asyncio.wait_for(reached.wait(), 20)
    call.cancel()
    monkeypatch.undo()
    await place.crash(first)
    clock.advance(4 * 3_600.0)
    elsewhere = await place.open(Account)
    assert await elsewhere.actor(Account, "a").deposit(0) == 2
    await elsewhere.actor(Account, "a").deposit(0)
    await place.close(elsewhere)
    last = await place.open(Shop, Account)

    async def finished() -> bool:
        return bool(await last.actor(Shop, "s").lines())

    await eventually(finished)
    assert await last.actor(Shop, "s").lines() == ["1 charged tea 2 3"]
    assert await last.actor(Account, "a").balance() == 2


_original_record = ActorCell.record


async def test_an_unfinished_turn_never_lends_its_steps_to_another(memory: Place) -> None:
    """The end of a turn with steps can't be written for a while: other requests wait for it."""
    from loom.errors import OutcomeUnknownError
    from loom.testing.faults import Fault, FaultPlan

    plan = FaultPlan()
    app = await memory.open(Shop, Account, plans={"journal": plan})
    app.host.committer._patience = 0.05
    await app.actor(Shop, "s").lines()
    # appends: Account, [began, call], step, Account, call, step, then the end
    before = plan.count("append_many")
    for nth in range(7, 40):
        plan.at("append_many", nth, Fault.REFUSED)
    first = asyncio.ensure_future(app.actor(Shop, "s").buy("tea", "a"))
    second = asyncio.ensure_future(app.actor(Shop, "s").buy("coffee", "a"))
    with pytest.raises(OutcomeUnknownError):
        await first
    assert plan.count("append_many") > before
    plan.calm()
    assert await second == "3 charged coffee 4 6"
    assert await app.actor(Shop, "s").lines() == ["1 charged tea 2 3", "3 charged coffee 4 6"]
    assert await app.actor(Account, "a").balance() == 4
    assert EFFECTS.count("tea") == 2
    assert (await journal(app).head("actor/Shop/s")).seq > 0


async def test_a_request_is_acked_only_when_its_messages_are_queued(place: Place) -> None:
    """The queue takes everything but what the outbox has: the request stays unacked, and a crash loses nothing."""
    first = await place.open(Account)
    held = asyncio.Event()

    async def deliver(outgoing: Any) -> None:
        held.set()
        await asyncio.Event().wait()

    first.host.outbox._deliver = deliver  # type: ignore[method-assign]
    async with place.make(Account).client() as client:
        call = asyncio.ensure_future(client.actor(Account, "a").pay("b", 30))
        await asyncio.wait_for(held.wait(), 20)
        await first.actor(Account, "c").deposit(1)  # round trips in which a premature ack would have gone through
        await client.actor(Account, "d").deposit(1)
        assert not call.done()
        await place.crash(first)
        second = await place.open(Account)
        await place.expire_leases(second)
        assert await call == -30
        await eventually(lambda: _is(second, "b", 30), "the deposit")


async def test_no_snapshot_passes_messages_that_have_not_left(place: Place) -> None:
    place.options |= {"snapshot_every": 1, "retain_entries": 1}
    first = await place.open(Account)

    async def deliver(outgoing: Any) -> None:
        await asyncio.Event().wait()

    first.host.outbox._deliver = deliver  # type: ignore[method-assign]
    assert await first.actor(Account, "a").pay("b", 30) == -30
    call = asyncio.ensure_future(first.actor(Account, "a").deposit(1))
    await first.actor(Account, "c").deposit(1)
    assert (await journal(first).head("actor/Account/a")).snapshot_seq == 0
    await place.crash(first)
    call.cancel()
    second = await place.open(Account)
    await eventually(lambda: _is(second, "b", 30), "the deposit")
