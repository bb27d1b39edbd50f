"""What every StateStore must do."""

from __future__ import annotations

import asyncio

import pytest

from ...errors import InvalidKeyError
from ...plugins.spec import Durability, Reach
from ...ports.state import StateRecord, StateStore
from .base import Harness, Suite, scenario
from .child import report, run_child
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["StateStoreSuite"]

H = Harness[StateStore]


def record(key: str, seq: int, actor_type: str = "Account", **state: object) -> StateRecord:
    """A record whose state says where it comes from."""
    return StateRecord(actor_type, key, {"seq": seq, **state}, seq, 1_700_000_000.25 + seq)


async def save_and_report(store: StateStore, writer: str) -> None:
    """Child: save ever newer records of four actors against others, and report each that was taken."""
    seq = int(writer)
    while True:
        for key in "abcd":
            if await store.save(record(key, seq)):
                report([key, seq])
        seq += 2


class StateStoreSuite(Suite[StateStore]):
    """All that a StateStore must do."""

    @scenario()
    async def test_the_newest_record_is_kept(self, h: H) -> None:
        assert await h.adapter.load("Account", "a") is None
        nested = {"list": [1, None, {"x": 0.5}], "é": "\x00"}
        assert await h.adapter.save(record("a", 3, nested=nested)) is True
        assert await h.adapter.load("Account", "a") == record("a", 3, nested=nested)
        assert await h.adapter.save(record("a", 9)) is True
        for seq in (0, 3, 8, 9):
            assert await h.adapter.save(record("a", seq, late=True)) is False
        assert await h.adapter.load("Account", "a") == record("a", 9)

    @scenario()
    async def test_state_never_moves_backwards_under_racing_writers(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        for round_ in range(40):
            order = [(n * 7 + round_) % 10 for n in range(10)]
            key, seen = f"k{round_}", -1

            async def watch(key: str = key) -> None:
                seen = -1
                for _ in range(10):
                    found = await clients[1].load("Account", key)
                    assert found is None or found.seq >= seen
                    seen = -1 if found is None else found.seq

            taken, _ = await asyncio.gather(
                asyncio.gather(*(clients[n % 2].save(record(key, n)) for n in order)), watch()
            )
            assert taken[order.index(9)] is True
            found = await clients[round_ % 2].load("Account", key)
            assert found == record(key, 9)
            assert found.seq >= seen

    @scenario()
    async def test_deleting_forgets(self, h: H) -> None:
        await h.adapter.delete("Account", "absent")
        await h.adapter.save(record("a", 5))
        await h.adapter.delete("Account", "a")
        assert await h.adapter.load("Account", "a") is None
        assert await h.adapter.save(record("a", 1)) is True

    @scenario()
    async def test_a_query_pages_over_one_type_in_the_order_of_keys(self, h: H) -> None:
        for key in HOSTILE_KEYS:
            await h.adapter.save(record(key, 1))
            await h.adapter.save(record("x", 1, actor_type=key))
        found: list[StateRecord] = []
        cursor: str | None = None
        while True:
            page, cursor = await h.adapter.query("Account", limit=7, cursor=cursor)
            assert len(page) <= 7
            found += page
            if cursor is None:
                break
        assert found == [record(key, 1) for key in sorted(HOSTILE_KEYS)]
        for key in HOSTILE_KEYS:
            assert await h.adapter.load("Account", key) == record(key, 1)
            assert await h.adapter.query(key) == ([record("x", 1, actor_type=key)], None)
        assert await h.adapter.query("Nothing") == ([], None)

    @scenario()
    async def test_bad_names_are_refused(self, h: H) -> None:
        for key in BAD_KEYS:
            for actor_type, name in ((key, "a"), ("Account", key)):
                with pytest.raises(InvalidKeyError):
                    await h.adapter.save(record(name, 1, actor_type=actor_type))
                with pytest.raises(InvalidKeyError):
                    await h.adapter.load(actor_type, name)
                with pytest.raises(InvalidKeyError):
                    await h.adapter.delete(actor_type, name)

    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        for n in range(10):
            await h.adapter.save(record(str(n), n + 1))
        store = await h.reopen()
        assert await store.query("Account") == ([record(str(n), n + 1) for n in range(10)], None)

    @scenario(durability=Durability.PROCESS, reach=Reach.HOST, url=True)
    async def test_killed_processes_that_raced_have_kept_the_newest(self, h: H) -> None:
        assert h.url is not None
        async with (
            run_child(save_and_report, h.adapter, h.url, "1") as one,
            run_child(save_and_report, h.adapter, h.url, "2") as two,
        ):
            for child in (one, two):
                while len(child.lines) < 40 and await child.read() is not None:
                    pass
            reports = [*await one.kill(), *await two.kill()]
        store = await h.reopen()
        for key in "abcd":
            newest = max(seq for name, seq in reports if name == key)
            found = await store.load("Account", key)
            assert found is not None
            assert found.seq >= newest
            assert found == record(key, found.seq)
