"""Activation, deactivation, snapshots and trimming: what is in memory is always what the journal says."""

from __future__ import annotations

import asyncio
import dataclasses
import types
from typing import Any

import msgspec
import pytest

from loom import Actor, Loom
from loom.errors import (
    CorruptEntryError,
    DefinitionError,
    JournalGapError,
    ReadOnlyViolationError,
    StateDecodeError,
    StateVersionError,
)
from loom.ports import Append, Snapshot
from loom.testing.faults import Fault, FaultPlan

from .bank import Account
from .place import Place, eventually, journal


async def test_snapshots_come_every_so_many_entries_and_the_rest_is_trimmed(place: Place) -> None:
    app = await place.open(Account, options={"snapshot_every": 10, "retain_entries": 5})
    for _ in range(35):
        await app.actor(Account, "a").deposit(1)
    head = await journal(app).head("actor/Account/a")
    assert head.seq == 35
    assert head.snapshot_seq >= 10
    with pytest.raises(JournalGapError):
        await journal(app).read("actor/Account/a", after=0)
    kept = await journal(app).read("actor/Account/a", after=head.snapshot_seq)
    assert [entry.seq for entry in kept] == list(range(head.snapshot_seq + 1, 36))
    await place.close(app)
    again = await place.open(Account)
    assert await again.actor(Account, "a").balance() == 35
    assert await again.actor(Account, "a").deposit(1) == 36


async def test_trimming_keeps_what_retention_asks_for(place: Place) -> None:
    app = await place.open(Account, options={"snapshot_every": 5, "retain_entries": 12})
    for _ in range(30):
        await app.actor(Account, "a").deposit(1)

    async def last_snapshot() -> bool:
        return (await journal(app).head("actor/Account/a")).snapshot_seq == 30

    await eventually(last_snapshot)  # it is written after the answer
    assert len(await journal(app).read("actor/Account/a", after=30 - 12)) == 12


@pytest.mark.parametrize("every", [1, 2, 7, 100])
async def test_activation_equals_replay(place: Place, every: int) -> None:
    app = await place.open(Account, options={"snapshot_every": every, "retain_entries": 1000})
    for number in range(15):
        await app.actor(Account, "a").deposit(number)
        await app.actor(Account, "a").note(str(number))
    await place.close(app)
    again = await place.open(Account)
    assert await again.actor(Account, "a").balance() == sum(range(15))
    assert await again.actor(Account, "a").notes() == [str(n) for n in range(15)]


async def test_a_snapshot_that_fails_costs_nothing(memory: Place) -> None:
    plan = FaultPlan(rate=1.0, faults=[Fault.REFUSED], methods=["write_snapshot"])
    app = await memory.open(Account, plans={"journal": plan}, options={"snapshot_every": 2})
    for _ in range(5):
        await app.actor(Account, "a").deposit(1)
    assert plan.happened
    assert await app.actor(Account, "a").balance() == 5


async def test_a_gap_is_met_by_reading_the_snapshot_again(memory: Place) -> None:
    """Another host trims between this one's reading of head and of entries."""
    app = await memory.open(Account, options={"snapshot_every": 1000})
    for _ in range(4):
        await app.actor(Account, "a").deposit(1)
    other = await _reopened(memory, app)
    store = journal(other)
    inner, raced = store.read, False

    async def read(stream: str, after: int = 0, limit: int = 1000) -> Any:
        nonlocal raced
        if not raced:
            raced = True
            await _snapshot(other, "actor/Account/a")
            await store.trim(stream, 3)
        return await inner(stream, after, limit)

    store.read = read  # type: ignore[method-assign]
    assert await other.actor(Account, "a").balance() == 4
    assert raced


async def _reopened(place: Place, app: Loom) -> Loom:
    await place.close(app)
    return await place.open(Account, options={"snapshot_every": 1000})


async def _snapshot(app: Loom, stream: str) -> None:
    from loom.codec import encode
    from loom.runtime.entries import ActorSnapshot, encode_snapshot

    state = encode({"amount": 3, "seen": []})
    await journal(app).write_snapshot(stream, Snapshot(3, encode_snapshot(ActorSnapshot(state, 1, 0.0))))


async def test_a_gap_that_stays_is_an_error_that_names_it(memory: Place) -> None:
    app = await memory.open(Account)
    for _ in range(4):
        await app.actor(Account, "a").deposit(1)
    other = await _reopened(memory, app)
    world: Any = journal(other)
    del world._world.streams["actor/Account/a"].entries[:2]
    with pytest.raises(JournalGapError, match="actor/Account/a"):
        await other.actor(Account, "a").balance()


async def test_a_corrupt_entry_stops_its_actor_and_no_other(place: Place) -> None:
    app = await place.open(Account)
    await app.actor(Account, "a").deposit(1)
    await app.actor(Account, "b").deposit(1)
    head = await journal(app).head("actor/Account/a")
    await journal(app).append(Append("actor/Account/a", head.seq, head.entry_id, "bad", b"\xff\x00", head.fence))
    await place.close(app)
    again = await place.open(Account)
    for _ in range(2):
        with pytest.raises(CorruptEntryError, match="seq 2") as caught:
            await again.actor(Account, "a").deposit(1)
        assert (caught.value.context["stream"], caught.value.context["seq"]) == ("actor/Account/a", 2)
    await again.actor(Account, "b").pay("a", 1)  # a send to it waits, and stops nobody
    assert await again.actor(Account, "b").deposit(1) == 1
    assert (await journal(again).head("actor/Account/a")).seq == 2


class Old(msgspec.Struct):
    name: str = "n"


class Wrong(msgspec.Struct):
    name: int = 0


def versioned(name: str, state: Any, version: int = 1, upgrade: Any = None) -> Any:
    async def get(self: Any) -> Any:
        return self.state.name

    async def set(self: Any, value: Any) -> None:
        self.state.name = value

    space: dict[str, Any] = {"state_version": version, "get": get, "set": set, "__module__": __name__}
    if upgrade is not None:
        space["upgrade"] = upgrade
    return types.new_class(name, (Actor[state],), {}, lambda body: body.update(space))


async def test_state_that_no_longer_decodes_names_the_field_and_is_not_overwritten(place: Place) -> None:
    before = versioned("Thing", Old)
    app = await place.open(before)
    await app.actor(before, "t").set("text")
    await place.close(app)
    broken = versioned("Thing", Wrong)
    again = await place.open(broken)
    with pytest.raises(StateDecodeError, match=r"\$\.name"):
        await again.actor(broken, "t").set(5)
    assert (await journal(again).head("actor/Thing/t")).seq == 1
    await place.close(again)
    once_more = await place.open(before)
    assert await once_more.actor(before, "t").get() == "text"


async def test_state_is_upgraded_and_newer_state_is_refused(place: Place) -> None:
    seen: list[Any] = []

    def upgrade(self: Any, old: Any, version: int) -> Any:
        seen.append((old, version))
        return Wrong(len(old["name"]))

    before, after = versioned("Thing", Old), versioned("Thing", Wrong, 2, upgrade)
    app = await place.open(before, options={"snapshot_every": 1})
    await app.actor(before, "t").set("text")
    await place.close(app)
    newer = await place.open(after)
    assert await newer.actor(after, "t").get() == 4
    assert seen[0] == ({"name": "text"}, 1)
    await newer.actor(after, "t").set(9)
    await place.close(newer)
    older = await place.open(before)
    with pytest.raises(StateVersionError, match="version 2"):
        await older.actor(before, "t").get()
    await place.close(older)
    last = await place.open(after)
    assert await last.actor(after, "t").get() == 9


async def test_an_upgrade_that_is_missing_or_wrong_overwrites_nothing(memory: Place) -> None:
    before = versioned("Thing", Old)
    app = await memory.open(before)
    await app.actor(before, "t").set("text")
    await memory.close(app)
    for actor, error in (
        (versioned("Thing", Wrong, 2), DefinitionError),
        (versioned("Thing", Wrong, 2, lambda self, old, version: {"name": "x"}), StateDecodeError),
    ):
        again = await memory.open(actor)
        with pytest.raises(error):
            await again.actor(actor, "t").get()
        assert (await journal(again).head("actor/Thing/t")).seq == 1
        await memory.close(again)


EVENTS: list[str] = []


class Hooked(Actor[Old]):
    async def on_activate(self) -> None:
        EVENTS.append(f"up {self.key} {self.state.name}")
        self.cache = 7

    async def on_deactivate(self) -> None:
        EVENTS.append(f"down {self.key} {self.state.name} {self.cache}")

    async def set(self, name: str) -> int:
        self.state.name = name
        return self.cache

    async def wait(self) -> None:
        await asyncio.sleep(0)


class Changes(Actor[Old]):
    async def on_activate(self) -> None:
        self.state.name = "changed"

    async def get(self) -> str:
        return self.state.name


class Fails(Actor[Old]):
    attempts = 0

    async def on_activate(self) -> None:
        Fails.attempts += 1
        if Fails.attempts == 1:
            raise OSError("not yet")

    async def on_deactivate(self) -> None:
        raise OSError("never mind")

    async def get(self) -> str:
        return self.state.name


@pytest.fixture(autouse=True)
def _fresh() -> None:
    EVENTS.clear()
    Fails.attempts = 0


async def test_idle_actors_leave_memory_by_age_and_come_back(place: Place) -> None:
    clock = place.manual()
    app = await place.open(Hooked, options={"idle_seconds": 100.0})
    assert await app.actor(Hooked, "h").set("one") == 7
    assert await app.host.sweep() == 0
    app.host.cells["actor/Hooked/h"].used_at -= 101.0
    assert await app.host.sweep() == 1
    assert app.host.cells == {}
    assert EVENTS == ["up h n", "down h one 7"]
    assert await app.actor(Hooked, "h").set("two") == 7
    assert EVENTS[2:] == ["up h one"]
    assert clock.now() > 0


async def test_the_least_recently_used_leave_when_there_are_too_many(memory: Place) -> None:
    app = await memory.open(Account, options={"max_active": 3})
    for key in ("a", "b", "c", "d", "e"):
        await app.actor(Account, key).deposit(1)
    await app.actor(Account, "a").deposit(1)
    assert await app.host.sweep() == 2
    assert {cell.rpartition("/")[2] for cell in app.host.cells} == {"d", "e", "a"}
    assert await app.actor(Account, "b").deposit(1) == 2


async def test_a_busy_actor_stays(memory: Place) -> None:
    gate = asyncio.Event()

    class Busy(Actor[None]):
        async def work(self) -> str:
            await gate.wait()
            return "done"

    app = await memory.open(Busy, options={"idle_seconds": 0.001, "max_active": 1})
    call = asyncio.ensure_future(app.actor(Busy, "b").work())
    await eventually(lambda: app.host.turns_running == 1)
    await app.host.sweep()
    assert len(app.host.cells) == 1
    gate.set()
    assert await call == "done"


async def test_on_activate_may_not_change_the_state(place: Place) -> None:
    app = await place.open(Changes)
    with pytest.raises(ReadOnlyViolationError, match="on_activate changed the state"):
        await app.actor(Changes, "c").get()


async def test_an_activation_that_failed_is_tried_again_by_the_next_call(place: Place) -> None:
    app = await place.open(Fails)
    with pytest.raises(OSError, match="not yet"):
        await app.actor(Fails, "f").get()
    assert await app.actor(Fails, "f").get() == "n"


async def test_deactivation_is_a_snapshot_when_worth_it(place: Place) -> None:
    app = await place.open(Account, options={"snapshot_every": 10})
    for _ in range(6):
        await app.actor(Account, "a").deposit(1)
    await app.actor(Account, "b").deposit(1)
    await place.close(app)
    again = await place.open(Account)
    assert (await journal(again).head("actor/Account/a")).snapshot_seq == 6
    assert (await journal(again).head("actor/Account/b")).snapshot_seq == 0


@dataclasses.dataclass
class NeedsArguments:
    name: str


async def test_a_state_without_defaults_needs_an_initial_state(memory: Place) -> None:
    class Bare(Actor[NeedsArguments]):
        async def get(self) -> str:
            return self.state.name

    class Given(Actor[NeedsArguments]):
        def initial_state(self) -> NeedsArguments:
            return NeedsArguments(f"for {self.key}")

        async def get(self) -> str:
            return self.state.name

    app = await memory.open(Bare, Given)
    with pytest.raises(DefinitionError, match="initial_state"):
        await app.actor(Bare, "x").get()
    assert await app.actor(Given, "x").get() == "for x"
