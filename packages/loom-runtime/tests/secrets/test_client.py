"""The client: what it caches, when it reads again, and what it tells."""

from __future__ import annotations

import asyncio
import logging

import pytest

from loom.adapters.memory.secrets import InMemorySecretsStore
from loom.errors import (
    SecretDisabledError,
    SecretExpiredError,
    SecretNotFoundError,
    StoreUnavailableError,
)
from loom.ports.secrets import Rotation, Secret
from loom.secrets import InMemorySecretsClient, SecretsClient
from loom.testing.clock import ManualClock
from loom.testing.suites.base import eventually


class CountingStore(InMemorySecretsStore):
    """The memory store, that counts reads and may be down."""

    reads = 0
    down = False

    async def get(self, name: str, version: str | None = None) -> Secret:
        self.reads += 1
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailableError("the store is down")
        return await super().get(name, version)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> CountingStore:
    return CountingStore(clock=clock)


@pytest.fixture
def client(store: CountingStore, clock: ManualClock) -> SecretsClient:
    return SecretsClient(store, ttl=100, clock=clock)


async def test_a_value_is_read_once_for_all_who_ask(store: CountingStore, client: SecretsClient) -> None:
    async with store, client:
        await store.set("a", "x")
        found = await asyncio.gather(*(client.get("a") for _ in range(50)))
        assert {value.reveal() for value in found} == {"x"}
        await client.get("a")
        assert store.reads == 1


async def test_one_who_gives_up_takes_nothing_from_the_others(store: CountingStore, client: SecretsClient) -> None:
    async with store, client:
        await store.set("a", "x")
        first, second = asyncio.create_task(client.get("a")), asyncio.create_task(client.get("a"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).reveal() == "x"


async def test_what_is_used_is_read_again_before_it_is_old(
    store: CountingStore, client: SecretsClient, clock: ManualClock
) -> None:
    async with store, client:
        await store.set("a", "x")
        await client.get("a")
        await store.set("a", "y")
        await eventually(lambda: clock.sleeping == 1, "the client waits")
        clock.advance(75)
        await eventually(lambda: store.reads == 2, "it was read again")
        await eventually(lambda: clock.sleeping == 1, "the client waits")
        assert (await client.get("a")).reveal() == "y"
        assert store.reads == 2
        clock.advance(75)
        await eventually(lambda: store.reads == 3, "it was used, and so it was read again")
        await eventually(lambda: clock.sleeping == 1, "the client waits")
        clock.advance(75)
        await eventually(lambda: clock.sleeping == 0, "nobody used it, and so it was left alone")
        assert store.reads == 3
        clock.advance(25)
        assert (await client.get("a")).reveal() == "y"
        assert store.reads == 4


async def test_a_store_that_is_down_is_noticed_when_the_value_is_old(
    store: CountingStore, client: SecretsClient, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with store, client:
        await store.set("a", "planted-7hQ2xZ")
        await client.get("a")
        store.down = True
        await eventually(lambda: clock.sleeping == 1, "the client waits")
        with caplog.at_level(logging.WARNING):
            clock.advance(80)
            await eventually(lambda: "could not be read again" in caplog.text, "it is said")
        assert "planted" not in caplog.text
        assert (await client.get("a")).reveal() == "planted-7hQ2xZ"
        clock.advance(20)
        with pytest.raises(StoreUnavailableError):
            await client.get("a")
        store.down = False
        assert (await client.get("a")).reveal() == "planted-7hQ2xZ"


async def test_bounds_are_kept_to_the_moment(store: CountingStore, client: SecretsClient, clock: ManualClock) -> None:
    async with store, client:
        await store.set("a", "first", expires_at=clock.now() + 10)
        assert (await client.get("a")).reveal() == "first"
        clock.advance(10)
        with pytest.raises(SecretExpiredError):
            await client.get("a")
        await store.set("a", "second")
        assert (await client.get("a")).reveal() == "second"


async def test_a_disabled_version_is_noticed_in_time(
    store: CountingStore, client: SecretsClient, clock: ManualClock
) -> None:
    async with store, client:
        about = await store.set("a", "x")
        await client.get("a")
        await store.update("a", about.version, enabled=False)
        await eventually(lambda: clock.sleeping == 1, "the client waits")
        clock.advance(75)
        await eventually(lambda: store.reads == 2, "it was read again")
        with pytest.raises(SecretDisabledError):
            await client.get("a")


async def test_a_rotation_is_told(
    store: CountingStore, client: SecretsClient, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Rotation] = []

    def failing(rotation: Rotation) -> None:
        raise RuntimeError("a handler's own")

    client.on_rotation("a", failing)
    stop = client.on_rotation("a", told.append)
    async with store, client:
        first = await store.set("a", "planted-7hQ2xZ")
        await client.get("a")
        for _ in range(3):
            await eventually(lambda: clock.sleeping == 1, "the client waits")
            reads = store.reads
            clock.advance(75)
            await eventually(lambda reads=reads: store.reads > reads, "it is read again although nobody asks")
        assert told == []
        second = await store.set("a", "planted-9wK4yP")
        await eventually(lambda: clock.sleeping == 1, "the client waits")
        clock.advance(75)
        await eventually(lambda: told, "it is told")
        assert [(r.name, r.old and r.old.version, r.new.version) for r in told] == [
            ("a", first.version, second.version)
        ]
        assert "planted" not in repr(told) + caplog.text
        assert "a handler's own" in caplog.text
        stop()
        await store.set("a", "third")
        client.forget()
        await client.get("a")
        assert len(told) == 1


async def test_in_an_overlap_old_and_new_are_accepted(clock: ManualClock) -> None:
    async with InMemorySecretsClient({"a": "first"}, clock=clock) as client:
        assert [value.reveal() for value in await client.accepted("a")] == ["first"]
        await client.store.rotate("a", "second", overlap=60)
        assert [value.reveal() for value in await client.accepted("a")] == ["second", "first"]
        clock.advance(60)
        assert [value.reveal() for value in await client.accepted("a")] == ["second"]
        with pytest.raises(SecretNotFoundError):
            await client.accepted("b")


async def test_versions_disabled_and_expired_ones_raise(clock: ManualClock) -> None:
    async with InMemorySecretsClient({"a": "x"}, clock=clock) as client:
        about = (await client.store.versions("a"))[0]
        assert (await client.get("a", about.version)).reveal() == "x"
        with pytest.raises(SecretNotFoundError):
            await client.get("b")
        await client.store.update("a", about.version, enabled=False)
        client.forget()
        for version in (None, about.version):
            with pytest.raises(SecretDisabledError):
                await client.get("a", version)


async def test_a_closed_client_has_nothing_left_and_opens_again(store: CountingStore, clock: ManualClock) -> None:
    client = SecretsClient(lambda: CountingStore.sharing(store), clock=clock)
    async with store:
        await store.set("a", "x")
        for _ in range(2):
            assert (await client.get("a")).reveal() == "x"
            await client.close()
            await client.close()
            assert [task for task in asyncio.all_tasks() if "secret" in task.get_name()] == []
