"""What every ActorRegistry must do."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ...errors import InvalidKeyError
from ...plugins.spec import Durability, Reach
from ...ports.registry import ActorRecord, ActorRegistry
from .base import Harness, Suite, scenario
from .child import report, run_child
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["ActorRegistrySuite"]

H = Harness[ActorRegistry]


async def everything(registry: ActorRegistry, actor_type: str | None = None, limit: int = 7) -> list[ActorRecord]:
    """All records, page by page."""
    found: list[ActorRecord] = []
    cursor: str | None = None
    while True:
        page, cursor = await registry.list(actor_type, limit=limit, cursor=cursor)
        assert len(page) <= limit
        found += page
        if cursor is None:
            return found


async def register_and_report(registry: ActorRegistry, host: str) -> None:
    """Child: register an actor of its own, refresh one that it shares with others, and report what it sees."""
    await registry.register(ActorRecord(actor_type="Account", key=host, host=host))
    for n in range(30):
        await registry.heartbeat("Account", "shared", messages=n)
    report([record.key for record in await everything(registry)])


class ActorRegistrySuite(Suite[ActorRegistry]):
    """All that an ActorRegistry must do. Give the harness's adapters a ``ttl`` of ``Harness.unit`` or more."""

    @scenario()
    async def test_registering_and_refreshing(self, h: H) -> None:
        assert await h.adapter.get("Account", "a") is None
        assert await h.adapter.heartbeat("Account", "a") is False
        await h.adapter.register(ActorRecord(actor_type="Account", key="a", host="h1", status="busy", messages=3))
        first = await h.adapter.get("Account", "a")
        assert first is not None
        assert (first.actor_type, first.key, first.host, first.status, first.messages) == (
            "Account", "a", "h1", "busy", 3,
        )  # fmt: skip
        assert first.seen_at == pytest.approx(h.now(), abs=5)
        assert first.registered_at == pytest.approx(h.now(), abs=5)
        await h.pass_time(min(0.01, h.adapter.ttl / 10))
        await h.adapter.register(ActorRecord(actor_type="Account", key="a", host="h2"))
        second = await h.adapter.get("Account", "a")
        assert second is not None
        assert (second.host, second.status, second.messages) == ("h2", "active", 0)
        assert second.registered_at == first.registered_at
        assert second.seen_at > first.seen_at
        assert await h.adapter.heartbeat("Account", "a", messages=7) is True
        assert await h.adapter.heartbeat("Account", "a", status="idle") is True
        third = await h.adapter.get("Account", "a")
        assert third is not None
        assert third == msgspec.structs.replace(second, status="idle", messages=7, seen_at=third.seen_at)
        assert third.seen_at >= second.seen_at

    @scenario()
    async def test_unregistering(self, h: H) -> None:
        await h.adapter.unregister("Account", "absent")
        await h.adapter.register(ActorRecord(actor_type="Account", key="a", host="h"))
        await h.adapter.unregister("Account", "a")
        assert await h.adapter.get("Account", "a") is None
        assert await h.adapter.heartbeat("Account", "a") is False
        assert await everything(h.adapter) == []

    @scenario()
    async def test_records_that_nobody_refreshes_disappear(self, h: H) -> None:
        half = h.adapter.ttl / 2
        if h.clock is None and half > 2:
            pytest.skip(f"the ttl of {h.adapter.ttl} s passes in real time only; give the harness a short one")
        for key in "ab":
            await h.adapter.register(ActorRecord(actor_type="Account", key=key, host="h"))
        await h.pass_time(half)
        assert await h.adapter.heartbeat("Account", "a") is True
        await h.pass_time(half)
        assert [record.key for record in await everything(h.adapter)] == ["a"]
        assert await h.adapter.get("Account", "b") is None
        assert await h.adapter.heartbeat("Account", "b") is False
        await h.pass_time(half)
        assert await everything(h.adapter) == []

    @scenario()
    async def test_listing_pages_in_the_order_of_type_and_key(self, h: H) -> None:
        pairs = [("Account", key) for key in HOSTILE_KEYS] + [(key, "x") for key in HOSTILE_KEYS]
        for actor_type, key in pairs:
            await h.adapter.register(ActorRecord(actor_type=actor_type, key=key, host="h"))
        assert [(r.actor_type, r.key) for r in await everything(h.adapter)] == sorted(pairs)
        assert [r.key for r in await everything(h.adapter, "Account")] == sorted(HOSTILE_KEYS)
        for actor_type, key in pairs:
            found = await h.adapter.get(actor_type, key)
            assert found is not None
            assert (found.actor_type, found.key) == (actor_type, key)

    @scenario()
    async def test_bad_names_are_refused(self, h: H) -> None:
        for key in BAD_KEYS:
            for actor_type, name in ((key, "a"), ("Account", key)):
                with pytest.raises(InvalidKeyError):
                    await h.adapter.register(ActorRecord(actor_type=actor_type, key=name, host="h"))
                with pytest.raises(InvalidKeyError):
                    await h.adapter.get(actor_type, name)

    @scenario()
    async def test_racing_refreshes_lose_nothing(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        await h.adapter.register(ActorRecord(actor_type="Account", key="a", host="h"))
        for round_ in range(60):
            results = await asyncio.gather(
                clients[0].heartbeat("Account", "a", messages=round_),
                clients[1].heartbeat("Account", "a", status=("idle", "busy")[round_ % 2]),
            )
            assert all(results)
            found = await clients[round_ % 2].get("Account", "a")
            assert found is not None
            assert (found.messages, found.status) == (round_, ("idle", "busy")[round_ % 2])

    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        for n in range(10):
            await h.adapter.register(ActorRecord(actor_type="Account", key=str(n), host="h", messages=n))
        before = await everything(h.adapter)
        assert await everything(await h.reopen()) == before

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_see_and_refresh_the_same_records(self, h: H) -> None:
        assert h.url is not None
        await h.adapter.register(ActorRecord(actor_type="Account", key="shared", host="h"))
        async with (
            run_child(register_and_report, h.adapter, h.url, "one") as one,
            run_child(register_and_report, h.adapter, h.url, "two") as two,
        ):
            seen = {"one": await one.rest(), "two": await two.rest()}
            assert (one.returncode, two.returncode) == (0, 0)
        assert all({name, "shared"} <= set(keys) for name, [keys] in seen.items())
        records = {record.key: record for record in await everything(h.adapter)}
        assert {key: record.host for key, record in records.items()} == {"one": "one", "shared": "h", "two": "two"}
        assert records["shared"].messages == 29
