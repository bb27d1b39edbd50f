"""The life of an actor in every configuration: found, called, recovered, evicted, given up on, redriven, upgraded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from support.bank import Account, Operation, perform
from support.configurations import CONFIGURATIONS
from support.fleet import hosts, owner_of, pid_of, shared_out
from support.places import UrlPlace
from support.process import eventually
from support.reading import coordination_of

from loom import Actor, Loom, read_only
from loom.plugins import AdapterContext, AdapterRegistry
from loom.ports import ActorRecord, ActorRegistry

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("configuration", CONFIGURATIONS, indirect=True)]


class Watch:
    """What happened to actors, counted; ``broken`` while the world is. A resource of the app."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.broken = False

    def __getitem__(self, event: str) -> int:
        return self.counts[event]


class Stock(Actor[dict[str, int]]):
    async def on_activate(self) -> None:
        self.watch = self.ctx.resource(Watch)
        self.watch.counts[f"{self.key} activated"] += 1

    async def on_deactivate(self) -> None:
        self.watch.counts[f"{self.key} deactivated"] += 1

    async def put(self, item: str, number: int) -> int:
        self.state[item] = self.state.get(item, 0) + number
        return self.state[item]

    async def deliver(self, item: str) -> int:
        """Fails while the world is broken."""
        self.watch.counts[f"{self.key} tried"] += 1
        if self.watch.broken:
            raise ConnectionError("the world is broken")
        return await self.put(item, 1)

    async def order(self, target: str, item: str) -> None:
        """A message to another, in the commit of this turn."""
        self.ctx.send(self.ctx.actor(Stock, target).deliver, item)

    async def order_later(self, item: str) -> None:
        """A reminder."""
        self.ctx.remind("order", 0.5, self.put, item, 1)

    @read_only
    async def items(self) -> dict[str, int]:
        return self.state


class Shelf(msgspec.Struct):
    items: dict[str, int] = {}
    closed: bool = False


def second_version() -> type[Actor[Shelf]]:
    """The class under the same name as it is deployed later: its state is a record."""

    class Stock(Actor[Shelf]):
        state_version = 2

        def upgrade(self, old: dict[str, int], version: int) -> Shelf:
            assert version == 1
            return Shelf(items=old)

        async def put(self, item: str, number: int) -> int:
            self.state.items[item] = self.state.items.get(item, 0) + number
            return self.state.items[item]

        async def close(self) -> None:
            self.state.closed = True

        @read_only
        async def shelf(self) -> Shelf:
            return self.state

    return Stock


def stock(place: UrlPlace, watch: Watch, actor: type[Actor[Any]] = Stock, **options: Any) -> Loom:
    """The app where the configuration says, with the watch as its resource."""

    @asynccontextmanager
    async def lifespan(app: Loom) -> AsyncIterator[Watch]:
        yield watch

    given = {"shards": 16, "snapshot_every": 4, **options}
    return Loom(actors=[actor], toml=place.toml, env="test", options=given, lifespan=lifespan)


@pytest.mark.crash
async def test_registered_found_called_and_recovered(configuration: UrlPlace) -> None:
    """The fleet tells who serves a type, and who owns an actor; the registry which actors there are. The owner dies."""
    place = configuration
    async with hosts(place, 2) as (one, two), place.client() as client, registry_of(place) as registry:
        async with coordination_of(place.url) as coordination:
            serving = {pid_of(member.id) for member in await coordination.members() if "actor/Account" in member.serves}
            assert serving == {one.pid, two.pid}
            owner = await owner_of(place.url, "actor/Account/alice")
            await registry.register(ActorRecord(actor_type="Account", key="alice", host=str(owner)))
            [found], _ = await registry.list("Account")
            assert (found.key, found.host) == ("alice", str(owner))
            assert await client.actor(Account, found.key).deposit(100) == 100
            await perform(client, Operation("later", "save_later", "alice", ("soon", 7)))
            dying, other = (one, two) if owner == one.pid else (two, one)
            await dying.kill()
            assert await perform(client, Operation("next", "deposit", "alice", (1,))) in (101, 108)
            await eventually(lambda: shared_out(place.url, [other]), "the other owns everything")
            assert {pid_of(member.id) for member in await coordination.members()} == {other.pid}
        await registry.register(ActorRecord(actor_type="Account", key="alice", host=str(other.pid)))
        again = await registry.get("Account", "alice")
        assert again is not None
        assert (again.host, again.registered_at) == (str(other.pid), found.registered_at)
        await eventually(place.unfinished, "the reminder fires")
        assert await client.actor(Account, "alice").balance() == 108
        await other.stop()
    (await place.journal()).settled()


async def test_state_and_reminders_survive_restarts(configuration: UrlPlace) -> None:
    watch = Watch()
    for start in range(3):
        async with stock(configuration, watch) as app:
            for n in range(3):  # a snapshot is every 4 entries: it is met with and without entries behind it
                assert await app.actor(Stock, "north").put("nails", 1) == 3 * start + n + 1
            await app.actor(Stock, "north", idempotency_key=f"later-{start}").order_later("screws")
            # A repeat of what an earlier process was asked is answered, not done.
            await app.actor(Stock, "north", idempotency_key="later-0").order_later("screws")
    async with stock(configuration, watch) as app:

        async def missing() -> Any:
            items = await app.actor(Stock, "north").items()
            return items if items.get("nails") != 9 or not items.get("screws") else None

        await eventually(missing, "the reminder fires")
    assert watch["north activated"] == 4


@pytest.mark.slow
async def test_a_message_is_retried_given_up_and_redriven(configuration: UrlPlace) -> None:
    """It fails for good, others go on, and after the world is repaired it is redriven: then it takes effect, once."""
    watch = Watch()
    watch.broken = True
    async with stock(configuration, watch, max_attempts=3) as app:
        await app.actor(Stock, "north").order("south", "nails")
        await eventually(lambda: dead(configuration), "it is given up")
        assert watch["south tried"] == 3
        [letter] = (await configuration.journal()).dead
        assert "3 attempts failed" in letter
        assert "the world is broken" in letter
        assert await app.actor(Stock, "south").put("screws", 1) == 1
        watch.broken = False
        await app.actor(Stock, "north").order("south", "bolts")
        await eventually(lambda: lacks(app, "south", {"screws": 1, "bolts": 1}), "later messages arrive")
        queue = configuration.reading.queue
        for name in await queue.queues():
            for found in await queue.dead_letters(name):
                assert await queue.redrive(name, [found.id]) == [True]
        await eventually(lambda: lacks(app, "south", {"screws": 1, "bolts": 1, "nails": 1}), "it arrives at last")
    journal = await configuration.journal()
    assert not journal.dead
    assert watch["south tried"] == 5


async def test_a_message_is_retried_until_the_world_is_repaired(configuration: UrlPlace) -> None:
    watch = Watch()
    watch.broken = True
    async with stock(configuration, watch) as app:
        await app.actor(Stock, "north").order("south", "nails")
        await eventually(lambda: watch["south tried"] < 2, "it is tried again")
        watch.broken = False
        await eventually(lambda: lacks(app, "south", {"nails": 1}), "it arrives")
    assert not (await configuration.journal()).dead


async def test_idle_actors_leave_memory_and_come_back(configuration: UrlPlace) -> None:
    """Of twelve actors two may stay; each comes back with what it had committed."""
    watch, keys = Watch(), [f"stock-{n}" for n in range(12)]
    async with stock(configuration, watch, max_active=2, idle_seconds=0.3) as app:
        for turn in range(1, 3):
            found = await asyncio.gather(*(app.actor(Stock, key).put("nails", n) for n, key in enumerate(keys)))
            assert found == [turn * n for n in range(12)]
            gone = [f"{key} deactivated" for key in keys]
            await eventually(lambda turn=turn, gone=gone: [g for g in gone if watch[g] < turn], "all have left memory")
        found = [await app.actor(Stock, key).items() for key in keys]
        assert found == [{"nails": 2 * n} for n in range(12)]
    assert all(watch[f"{key} activated"] >= 2 for key in keys)


async def test_state_of_an_older_version_is_upgraded(configuration: UrlPlace) -> None:
    """One actor has a snapshot, one only entries; both are read as the new version, and written as it."""
    watch, later = Watch(), second_version()
    counts = {"with-snapshot": 9, "entries-only": 1}
    async with stock(configuration, watch) as app:
        for key, count in counts.items():
            for _ in range(count):
                await app.actor(Stock, key).put("nails", 1)
    for closed in (False, True):  # first from the old version, then from what the new one has written
        async with stock(configuration, watch, later) as app:
            for key, count in counts.items():
                reference: Any = app.actor(later, key)
                assert await reference.shelf() == Shelf(items={"nails": count + 2 * closed}, closed=closed)
                assert await reference.put("nails", 2) == count + 2 + 2 * closed
                await reference.close()


def registry_of(place: UrlPlace) -> AbstractAsyncContextManager[ActorRegistry]:
    """The registry of the configuration."""
    app = place.app()
    return AdapterRegistry().open("registry", app.settings.url_for("registry")[0], AdapterContext())


async def dead(place: UrlPlace) -> str:
    return "" if (await place.journal()).dead else "none yet"


async def lacks(app: Loom, key: str, wanted: dict[str, int]) -> Any:
    found = await app.actor(Stock, key).items()
    return None if found == wanted else found
