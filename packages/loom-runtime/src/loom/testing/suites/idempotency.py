"""What every IdempotencyStore must do."""

from __future__ import annotations

import asyncio

import pytest

from ...errors import IdempotencyConflictError, IdempotencyTakenError, InvalidKeyError
from ...plugins.spec import Durability, Reach
from ...ports.idempotency import IdempotencyRecord, IdempotencyStore
from .base import Harness, Suite, scenario
from .child import report, run_child
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["IdempotencyStoreSuite"]

H = Harness[IdempotencyStore]


async def begin_and_report(store: IdempotencyStore, keys: str) -> None:
    """Child: claim keys against others, complete them, and report each that was completed."""
    for n in range(int(keys)):
        try:
            record = await store.begin(str(n))
        except IdempotencyTakenError:
            continue
        if not record.completed:
            await store.complete(record, b"%d" % n)
            report(n)


class _Life(Suite[IdempotencyStore]):
    @scenario()
    async def test_begin_complete_and_repeat(self, h: H) -> None:
        assert await h.adapter.get("k") is None
        record = await h.adapter.begin("k", fingerprint="f", ttl=1000)
        assert (record.key, record.fingerprint, record.completed, record.result) == ("k", "f", False, None)
        assert record.token
        assert record.began_at == pytest.approx(h.now(), abs=5)
        assert record.expires_at == pytest.approx(h.now() + 1000, abs=5)
        known = await h.adapter.get("k")
        assert known is not None
        assert (known.completed, known.token, known.fingerprint) == (False, "", "f")
        with pytest.raises(IdempotencyTakenError):
            await h.adapter.begin("k", fingerprint="f")
        result = bytes(range(256))
        await h.adapter.complete(record, result)
        await h.adapter.complete(record, result)
        for again in (await h.adapter.begin("k", fingerprint="f"), await h.adapter.get("k")):
            assert again is not None
            assert (again.completed, again.result, again.token) == (True, result, "")
            assert again.expires_at == pytest.approx(record.expires_at, abs=2)

    @scenario()
    async def test_an_empty_result_is_a_result(self, h: H) -> None:
        await h.adapter.complete(await h.adapter.begin("k"), b"")
        again = await h.adapter.begin("k")
        assert (again.completed, again.result) == (True, b"")

    @scenario()
    async def test_a_repeated_complete_keeps_the_first_result(self, h: H) -> None:
        record = await h.adapter.begin("k")
        await h.adapter.complete(record, b"first")
        await h.adapter.complete(record, b"second")
        assert (await h.adapter.begin("k")).result == b"first"

    @scenario()
    async def test_another_request_under_the_key_is_a_conflict(self, h: H) -> None:
        record = await h.adapter.begin("k", fingerprint="f")
        for _ in range(2):
            with pytest.raises(IdempotencyConflictError):
                await h.adapter.begin("k", fingerprint="other")
            await h.adapter.complete(record, b"x")

    @scenario()
    async def test_abandon_frees_the_key(self, h: H) -> None:
        record = await h.adapter.begin("k", fingerprint="f")
        await h.adapter.abandon(record)
        await h.adapter.abandon(record)
        assert await h.adapter.get("k") is None
        second = await h.adapter.begin("k", fingerprint="other")
        assert second.token != record.token
        await h.adapter.abandon(record)
        with pytest.raises(IdempotencyTakenError):
            await h.adapter.complete(record, b"x")
        await h.adapter.complete(second, b"y")
        await h.adapter.abandon(second)
        assert (await h.adapter.begin("k", fingerprint="other")).result == b"y"

    @scenario()
    async def test_taking_over_ends_the_first_token(self, h: H) -> None:
        with pytest.raises(KeyError):
            await h.adapter.take_over("k")
        first = await h.adapter.begin("k", fingerprint="f")
        second = await h.adapter.take_over("k", ttl=500)
        assert second.token not in ("", first.token)
        assert (second.completed, second.fingerprint) == (False, "f")
        assert second.expires_at == pytest.approx(h.now() + 500, abs=5)
        with pytest.raises(IdempotencyTakenError):
            await h.adapter.complete(first, b"first")
        await h.adapter.abandon(first)
        await h.adapter.complete(second, b"second")
        done = await h.adapter.take_over("k")
        assert (done.completed, done.result, done.token) == (True, b"second", "")
        with pytest.raises(IdempotencyTakenError):
            await h.adapter.complete(first, b"first")

    @scenario()
    async def test_a_record_read_by_another_proves_nothing(self, h: H) -> None:
        await h.adapter.begin("k")
        known = await h.adapter.get("k")
        assert known is not None
        with pytest.raises(IdempotencyTakenError):
            await h.adapter.complete(known, b"x")
        await h.adapter.abandon(known)
        assert await h.adapter.get("k") is not None

    @scenario()
    async def test_a_record_is_forgotten_when_its_life_ends(self, h: H) -> None:
        begun = await h.adapter.begin("begun", ttl=h.unit)
        done = await h.adapter.begin("done", ttl=h.unit)
        await h.adapter.complete(done, b"x")
        await h.pass_time(h.unit)
        for key in ("begun", "done"):
            assert await h.adapter.get(key) is None
            with pytest.raises(KeyError):
                await h.adapter.take_over(key)
        with pytest.raises(IdempotencyTakenError):
            await h.adapter.complete(begun, b"late")
        assert (await h.adapter.begin("done", fingerprint="other")).completed is False
        for ttl in (0.0, -1.0):
            with pytest.raises(ValueError, match=r"."):
                await h.adapter.begin("k", ttl=ttl)

    @scenario()
    async def test_hostile_keys_are_kept_apart_and_bad_ones_refused(self, h: H) -> None:
        for key in HOSTILE_KEYS:
            await h.adapter.complete(await h.adapter.begin(key), key.encode())
        for key in HOSTILE_KEYS:
            again = await h.adapter.begin(key)
            assert (again.key, again.result) == (key, key.encode())
        for key in BAD_KEYS:
            with pytest.raises(InvalidKeyError):
                await h.adapter.begin(key)


class _Races(Suite[IdempotencyStore]):
    @scenario()
    async def test_of_racing_callers_one_begins(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        for round_ in range(150):
            results = await asyncio.gather(
                *(clients[n % 2].begin(str(round_)) for n in range(4)), return_exceptions=True
            )
            winners = [result for result in results if isinstance(result, IdempotencyRecord)]
            assert len(winners) == 1, results
            assert sum(isinstance(result, IdempotencyTakenError) for result in results) == 3, results
            await clients[round_ % 2].complete(winners[0], b"done")

    @scenario()
    async def test_taking_over_against_completing_has_one_winner(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        for round_ in range(100):
            key = str(round_)
            first = await h.adapter.begin(key)
            calls = [clients[0].complete(first, b"first"), clients[1].take_over(key)]
            if round_ % 2:
                calls.reverse()
            results = await asyncio.gather(*calls, return_exceptions=True)
            if round_ % 2:
                results.reverse()
            completed, second = results
            assert isinstance(second, IdempotencyRecord)
            if completed is None:
                assert (second.completed, second.result) == (True, b"first")
            else:
                assert isinstance(completed, IdempotencyTakenError)
                assert (second.completed, second.result) == (False, None)
                await clients[0].complete(second, b"second")
            again = await clients[0].begin(key)
            assert again.result == (b"first" if completed is None else b"second")

    @scenario()
    async def test_of_racing_take_overs_the_last_token_works(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        for round_ in range(40):
            key = str(round_)
            first = await h.adapter.begin(key)
            records = [first, *await asyncio.gather(*(clients[n % 2].take_over(key) for n in range(3)))]
            assert len({record.token for record in records}) == 4
            results = await asyncio.gather(
                *(clients[n % 2].complete(record, b"%d" % n) for n, record in enumerate(records)),
                return_exceptions=True,
            )
            winners = [n for n, result in enumerate(results) if result is None]
            assert len(winners) == 1, results
            assert (await h.adapter.begin(key)).result == b"%d" % winners[0]

    @scenario()
    async def test_abandoning_against_beginning(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        for round_ in range(60):
            key = str(round_)
            first = await h.adapter.begin(key)
            _, second = await asyncio.gather(clients[0].abandon(first), clients[1].begin(key), return_exceptions=True)
            if isinstance(second, IdempotencyRecord):
                await clients[1].complete(second, b"second")
            else:
                assert isinstance(second, IdempotencyTakenError)
                assert await h.adapter.get(key) is None

    @scenario()
    async def test_a_cancelled_begin_is_whole_or_absent(self, h: H) -> None:
        for n in range(40):
            call = asyncio.create_task(h.adapter.begin(str(n)))
            for _ in range(n % 6):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            try:
                record = await h.adapter.begin(str(n))
            except IdempotencyTakenError:
                record = await h.adapter.take_over(str(n))
            await h.adapter.complete(record, b"done")


class _Crash(Suite[IdempotencyStore]):
    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        begun, done = await h.adapter.begin("begun"), await h.adapter.begin("done")
        await h.adapter.complete(done, b"x")
        store = await h.reopen()
        with pytest.raises(IdempotencyTakenError):
            await store.begin("begun")
        assert (await store.begin("done")).result == b"x"
        await store.complete(begun, b"y")
        assert (await store.begin("begun")).result == b"y"

    @scenario(durability=Durability.PROCESS, reach=Reach.HOST, url=True)
    async def test_processes_that_race_do_each_key_once(self, h: H) -> None:
        assert h.url is not None
        async with (
            run_child(begin_and_report, h.adapter, h.url, "80") as one,
            run_child(begin_and_report, h.adapter, h.url, "80") as two,
        ):
            done = [*await one.rest(), *await two.rest()]
            assert (one.returncode, two.returncode) == (0, 0)
        assert sorted(done) == list(range(80))
        store = await h.reopen()
        for n in range(80):
            assert (await store.begin(str(n))).result == b"%d" % n


class IdempotencyStoreSuite(_Life, _Races, _Crash):
    """All that an IdempotencyStore must do."""
