"""Reminders: set by a commit, fire once, not early, and survive whatever happens to their host."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any

import msgspec
import pytest

from loom import Actor, Loom, read_only
from loom.errors import UnknownMethodError
from loom.runtime.messages import shard_of
from loom.testing.clock import ManualClock
from loom.testing.faults import Fault, FaultPlan

from .place import SHARDS, Place, dead_letters, eventually


class Rung(msgspec.Struct):
    rung: list[str] = []


FAILURES: dict[str, int] = {}


class Alarm(Actor[Rung]):
    async def set(self, name: str, seconds: float, text: str) -> None:
        self.ctx.remind(name, seconds, self.ring, text)

    async def set_at(self, name: str, when: dt.datetime, text: str) -> None:
        self.ctx.remind(name, when, "ring", text)

    async def set_and_fail(self, name: str) -> None:
        self.ctx.remind(name, 1.0, self.ring, "never")
        raise ValueError

    async def set_unknown(self) -> None:
        self.ctx.remind("x", 1.0, "nothing_of_that_name")

    async def cancel(self, name: str) -> None:
        self.ctx.cancel_reminder(name)

    async def set_two_then_cancel(self) -> None:
        self.ctx.remind("a", 1.0, self.ring, "a")
        self.ctx.remind("b", dt.timedelta(seconds=1), self.ring, "b")
        self.ctx.cancel_reminder("a")

    async def ring(self, text: str) -> None:
        if FAILURES.get(text, 0) > 0:
            FAILURES[text] -= 1
            raise OSError(text)
        self.state.rung.append(text)

    @read_only
    async def rung(self) -> list[str]:
        return self.state.rung


@pytest.fixture(autouse=True)
def _fresh() -> None:
    FAILURES.clear()


async def passing(clock: ManualClock, app: Loom, count: int, key: str = "a") -> list[str]:
    async def there() -> bool:
        clock.advance(0.05)
        return len(await app.actor(Alarm, key).rung()) >= count

    await eventually(there, f"{count} rings")
    return await app.actor(Alarm, key).rung()


async def still(clock: ManualClock, app: Loom, seconds: float) -> list[str]:
    """Let time pass, with room for whatever might fire."""
    for _ in range(20):
        clock.advance(seconds / 20)
        await app.actor(Alarm, "other").rung()
    return await app.actor(Alarm, "a").rung()


async def test_it_fires_once_and_not_early(place: Place) -> None:
    clock = place.manual()
    app = await place.open(Alarm)
    await app.actor(Alarm, "a").set("r", 10.0, "ding")
    assert await still(clock, app, 9.9) == []
    clock.advance(0.2)
    assert await passing(clock, app, 1) == ["ding"]
    assert await still(clock, app, 30.0) == ["ding"]
    assert await _record(app) is None


async def _record(app: Loom) -> Any:
    return await app.host.pending.get(shard_of("actor/Alarm/a", SHARDS), "actor/Alarm/a")


async def test_a_reminder_of_the_same_name_is_replaced_and_one_can_be_cancelled(place: Place) -> None:
    clock = place.manual()
    app = await place.open(Alarm)
    await app.actor(Alarm, "a").set("r", 5.0, "first")
    await app.actor(Alarm, "a").set("r", 10.0, "second")
    await app.actor(Alarm, "a").set("gone", 5.0, "gone")
    await app.actor(Alarm, "a").cancel("gone")
    await app.actor(Alarm, "a").cancel("never set")
    assert await still(clock, app, 9.5) == []
    assert await passing(clock, app, 1) == ["second"]
    assert await still(clock, app, 20.0) == ["second"]


async def test_within_one_turn_the_last_word_counts(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Alarm)
    await app.actor(Alarm, "a").set_two_then_cancel()
    assert await passing(clock, app, 1) == ["b"]
    assert await still(clock, app, 5.0) == ["b"]


async def test_it_survives_a_restart_and_a_crash(place: Place) -> None:
    clock = place.manual()
    first = await place.open(Alarm)
    await first.actor(Alarm, "a").set("soon", 10.0, "soon")
    await first.actor(Alarm, "a").set("late", 1000.0, "late")
    await place.close(first)
    second = await place.open(Alarm)
    clock.advance(10.0)
    assert await passing(clock, second, 1) == ["soon"]
    await place.crash(second)
    clock.advance(2000.0)
    third = await place.open(Alarm)
    assert await passing(clock, third, 2) == ["soon", "late"]
    assert await still(clock, third, 10.0) == ["soon", "late"]


async def test_it_survives_snapshot_and_deactivation(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Alarm, options={"snapshot_every": 1, "retain_entries": 1})
    await app.actor(Alarm, "a").set("r", 10.0, "ding")
    for cell in list(app.host.cells.values()):
        await eventually(partial(_idle, cell))
        await cell.deactivate()
        app.host.drop(cell)
    clock.advance(11.0)
    assert await passing(clock, app, 1) == ["ding"]


def _idle(cell: Any) -> bool:
    return bool(cell.idle)


async def test_a_failed_turn_sets_none(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Alarm)
    with pytest.raises(ValueError):  # noqa: PT011
        await app.actor(Alarm, "a").set_and_fail("r")
    assert await still(clock, app, 10.0) == []


async def test_a_time_must_have_a_zone_and_a_method_must_exist(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Alarm)
    with pytest.raises(ValueError, match="no time zone"):
        await app.actor(Alarm, "a").set_at("r", dt.datetime(2020, 1, 1), "x")  # noqa: DTZ001
    with pytest.raises(UnknownMethodError):
        await app.actor(Alarm, "a").set_unknown()
    when = dt.datetime.fromtimestamp(clock.now() + 5, dt.UTC)
    await app.actor(Alarm, "a").set_at("r", when, "at")
    assert await still(clock, app, 4.0) == []
    assert await passing(clock, app, 1) == ["at"]


async def test_a_handler_that_fails_is_tried_again_then_given_up(place: Place) -> None:
    clock = place.manual()
    FAILURES.update(twice=2, always=1000)
    app = await place.open(Alarm, options={"max_attempts": 3})
    await app.actor(Alarm, "a").set("r", 1.0, "twice")
    assert await passing(clock, app, 1) == ["twice"]
    await app.actor(Alarm, "a").set("r", 1.0, "always")

    async def dead() -> bool:
        clock.advance(0.5)
        return len(await dead_letters(app)) == 1

    await eventually(dead)
    assert await app.actor(Alarm, "a").rung() == ["twice"]


async def test_firing_is_tried_again_when_the_journal_or_the_documents_fail(memory: Place) -> None:
    clock = memory.manual()
    plans = {"journal": FaultPlan(), "documents": FaultPlan()}
    app = await memory.open(Alarm, plans=plans)
    app.host.committer._patience = 0.2
    await app.actor(Alarm, "a").set("r", 5.0, "ding")
    for nth in range(1, 12):
        plans["journal"].at("append_many", nth, Fault.LOST_REQUEST)
    clock.advance(6.0)
    assert await passing(clock, app, 1) == ["ding"]
    await app.actor(Alarm, "a").set("r", 5.0, "dong")
    plans["documents"].at("batch", 1, Fault.REFUSED).at("batch", 2, Fault.LOST_ACK)
    clock.advance(6.0)
    assert await passing(clock, app, 2) == ["ding", "dong"]
    assert await still(clock, app, 10.0) == ["ding", "dong"]


async def test_a_clock_that_jumps_back_delays_and_one_that_jumps_ahead_hurries(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Alarm)
    start = clock.now()
    await app.actor(Alarm, "a").set("r", 10.0, "ding")
    clock.set_wall(start - 1000.0)
    assert await still(clock, app, 100.0) == []
    await app.actor(Alarm, "b").set("s", 5.0, "other")  # time goes on as usual for what is set now
    await passing(clock, app, 1, "b")
    clock.set_wall(start + 20.0)
    clock.advance(60.0)
    assert await passing(clock, app, 1) == ["ding"]
    assert await still(clock, app, 10.0) == ["ding"]
