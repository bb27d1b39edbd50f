"""What every LockManager must do: exclude, expire, hand over in order, and number its leases."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ...errors import InvalidKeyError, LockLostError
from ...plugins.spec import Durability, Feature
from ...ports.lock import Lease, LockManager
from ..linearizability import History, LockModel, RecordingLocks, check, drive_locks
from .base import Harness, Suite, eventually, scenario
from .keys import BAD_KEYS, HOSTILE_KEYS
from .locks_crash import LockCrashSuite

__all__ = ["LockManagerSuite"]

H = Harness[LockManager]


async def _take(locks: LockManager, name: str, ttl: float) -> Lease:
    lease = await locks.acquire(name, ttl)
    assert lease is not None, f"{name} is taken"
    return lease


async def _until_waiting(h: H, tasks: int) -> None:
    if (clock := h.clock) is None:
        await asyncio.sleep(h.unit * 0.2)
    else:
        await eventually(lambda: clock.sleeping >= tasks, f"{tasks} tasks wait for the lock")


class _Leases(Suite[LockManager]):
    @scenario()
    async def test_a_free_lock_is_taken_and_shown(self, h: H) -> None:
        assert await h.adapter.holder("l") is None
        before = h.now()
        lease = await _take(h.adapter, "l", h.unit)
        assert lease.name == "l"
        assert lease.holder
        assert before + h.unit - 1 <= lease.expires_at <= h.now() + h.unit + 1
        assert await (await h.second()).holder("l") == lease
        await _take(h.adapter, "other", h.unit)

    @scenario()
    async def test_a_taken_lock_is_taken_for_everybody(self, h: H) -> None:
        await _take(h.adapter, "l", h.unit)
        assert await h.adapter.acquire("l", h.unit) is None, "not reentrant"
        assert await (await h.second()).acquire("l", h.unit) is None

    @scenario()
    async def test_a_released_lock_is_free_at_once(self, h: H) -> None:
        other = await h.second()
        lease = await _take(h.adapter, "l", h.unit)
        assert await h.adapter.release(lease)
        assert await h.adapter.holder("l") is None
        assert not await h.adapter.release(lease)
        again = await _take(other, "l", h.unit)
        assert again.holder != lease.holder

    @scenario()
    async def test_a_lease_can_be_released_by_another_client(self, h: H) -> None:
        """A lease is a value: whoever has it holds the lock."""
        lease = await _take(h.adapter, "l", h.unit)
        other = await h.second()
        lease = await other.renew(lease, h.unit)
        assert await other.release(lease)

    @scenario()
    async def test_a_lease_ends_by_itself(self, h: H) -> None:
        lost = await _take(h.adapter, "l", h.unit)
        await h.pass_time(h.unit * 1.2)
        assert await h.adapter.holder("l") is None
        with pytest.raises(LockLostError):
            await h.adapter.renew(lost, h.unit)
        assert not await h.adapter.release(lost)
        await _take(await h.second(), "l", h.unit)

    @scenario()
    async def test_whoever_lost_the_lease_cannot_touch_the_next(self, h: H) -> None:
        lost = await _take(h.adapter, "l", h.unit)
        await h.pass_time(h.unit * 1.2)
        held = await _take(await h.second(), "l", h.unit * 20)
        with pytest.raises(LockLostError):
            await h.adapter.renew(lost, h.unit)
        assert not await h.adapter.release(lost)
        assert await h.adapter.holder("l") == held

    @scenario()
    async def test_renew_moves_the_end_under_the_same_token(self, h: H) -> None:
        lease = await _take(h.adapter, "l", h.unit)
        for _ in range(3):
            await h.pass_time(h.unit * 0.6)
            renewed = await h.adapter.renew(lease, h.unit)
            assert (renewed.name, renewed.token, renewed.holder) == (lease.name, lease.token, lease.holder)
            assert renewed.expires_at > lease.expires_at
            lease = renewed
        assert await h.adapter.acquire("l", h.unit) is None
        await h.adapter.renew(lease, h.unit * 0.2)
        await h.pass_time(h.unit * 0.4)
        await _take(h.adapter, "l", h.unit)

    @scenario()
    async def test_a_ttl_is_positive(self, h: H) -> None:
        lease = await _take(h.adapter, "l", h.unit)
        for ttl in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="ttl"):
                await h.adapter.acquire("m", ttl)
            with pytest.raises(ValueError, match="ttl"):
                await h.adapter.renew(lease, ttl)
        assert await h.adapter.holder("l") == lease

    @scenario(Feature.FENCING)
    async def test_tokens_grow_with_every_lease(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        tokens = []
        for n in range(12):
            lease = await _take(clients[n % 2], "l", h.unit)
            tokens.append(lease.token)
            if n % 3 == 2:
                await h.pass_time(h.unit * 1.2)
            else:
                await clients[n % 2].release(lease)
        assert tokens == sorted(set(tokens))
        assert tokens[0] > 0

    @scenario(Feature.FENCING)
    async def test_a_paused_holder_is_stopped_by_its_token(self, h: H) -> None:
        accepted: list[tuple[int, str]] = []

        def write(token: int, what: str) -> bool:
            """What the lock protects: it refuses a token below the highest that it has seen."""
            if accepted and token < accepted[-1][0]:
                return False
            accepted.append((token, what))
            return True

        paused = await _take(h.adapter, "l", h.unit)
        assert write(paused.token, "first")
        await h.pass_time(h.unit * 1.2)
        successor = await _take(await h.second(), "l", h.unit)
        assert write(successor.token, "second")
        assert not write(paused.token, "from the past")
        assert [what for _, what in accepted] == ["first", "second"]

    @scenario(Feature.FENCING, durability=Durability.PROCESS)
    async def test_tokens_grow_across_reopening(self, h: H) -> None:
        tokens = []
        locks = h.adapter
        for n in range(4):
            lease = await _take(locks, "l", h.unit)
            tokens.append(lease.token)
            if n % 2:
                await locks.release(lease)
            else:
                await h.pass_time(h.unit * 1.2)
            locks = await h.reopen()
        assert tokens == sorted(set(tokens))

    @scenario(durability=Durability.PROCESS)
    async def test_a_lease_outlives_the_client_that_took_it(self, h: H) -> None:
        lease = await _take(h.adapter, "l", h.unit * 20)
        locks = await h.reopen()
        assert await locks.holder("l") == lease
        assert await locks.acquire("l", h.unit) is None
        assert await locks.release(lease)

    @scenario()
    async def test_hostile_names_do_not_collide(self, h: H) -> None:
        leases = {name: await _take(h.adapter, name, 600.0) for name in HOSTILE_KEYS}
        for name, lease in leases.items():
            assert await h.adapter.holder(name) == lease
        assert all([await h.adapter.release(lease) for lease in leases.values()])

    @scenario()
    async def test_bad_names_are_refused(self, h: H) -> None:
        for name in BAD_KEYS:
            for call in (h.adapter.acquire(name, 1.0), h.adapter.holder(name)):
                with pytest.raises(InvalidKeyError):
                    await call


class _Waiting(Suite[LockManager]):
    @scenario()
    async def test_a_release_wakes_a_waiter(self, h: H) -> None:
        other = await h.second()
        for releaser, waiter in ((h.adapter, other), (h.adapter, h.adapter), (other, h.adapter)):
            lease = await _take(releaser, "l", h.unit * 99)
            task = asyncio.ensure_future(waiter.acquire("l", h.unit, wait=h.unit * 50))
            await _until_waiting(h, 1)
            assert not task.done()
            await releaser.release(lease)
            got = await task
            assert got is not None
            assert got.token > lease.token
            await waiter.release(got)

    @scenario()
    async def test_the_end_of_a_lease_wakes_a_waiter(self, h: H) -> None:
        await _take(h.adapter, "l", h.unit)
        task = asyncio.ensure_future((await h.second()).acquire("l", h.unit, wait=h.unit * 50))
        await _until_waiting(h, 1)
        await h.pass_time(h.unit * 1.2)
        assert await task is not None

    @scenario()
    async def test_a_wait_that_was_in_vain_ends_with_nothing(self, h: H) -> None:
        lease = await _take(h.adapter, "l", h.unit * 20)
        task = asyncio.ensure_future(h.adapter.acquire("l", h.unit, wait=h.unit))
        behind = asyncio.ensure_future(h.adapter.acquire("l", h.unit, wait=h.unit))
        await _until_waiting(h, 2)
        await h.pass_time(h.unit * 1.2)
        assert (await task, await behind) == (None, None)
        assert await h.adapter.holder("l") == lease

    @scenario()
    async def test_waiters_are_served_in_the_order_in_which_they_came(self, h: H) -> None:
        served: list[int] = []
        lease = await _take(h.adapter, "l", h.unit * 99)

        async def wait(n: int) -> None:
            got = await h.adapter.acquire("l", h.unit * 99, wait=h.unit * 50)
            assert got is not None
            served.append(n)
            await asyncio.sleep(0)
            await h.adapter.release(got)

        tasks = []
        for n in range(8):
            tasks.append(asyncio.ensure_future(wait(n)))
            await _until_waiting(h, n + 1)
        tasks[3].cancel()
        await h.adapter.release(lease)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert served == [0, 1, 2, 4, 5, 6, 7]

    @scenario()
    async def test_a_newcomer_does_not_pass_those_who_wait(self, h: H) -> None:
        lease = await _take(h.adapter, "l", h.unit * 99)
        waiter = asyncio.ensure_future(h.adapter.acquire("l", h.unit * 99, wait=h.unit * 50))
        await _until_waiting(h, 1)
        newcomer: asyncio.Task[Lease | None] | None = None
        await h.adapter.release(lease)
        newcomer = asyncio.ensure_future(h.adapter.acquire("l", h.unit * 99, wait=h.unit))
        assert await waiter is not None
        newcomer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await newcomer is None

    @scenario()
    async def test_only_one_of_many_is_inside(self, h: H) -> None:
        clients = [h.adapter, await h.second()]
        inside, passed, tokens = 0, 0, []

        async def enter(client: LockManager) -> None:
            nonlocal inside, passed
            for _ in range(10):
                lease = await client.acquire("l", 600.0, wait=600.0)
                assert lease is not None
                tokens.append(lease.token)
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
                passed += 1
                assert await client.release(lease)

        await asyncio.gather(*(enter(clients[n % 2]) for n in range(6)))
        assert passed == 60
        assert tokens == sorted(set(tokens))

    @scenario()
    async def test_concurrent_histories_are_linearizable(self, h: H) -> None:
        """Whatever several clients do at once, an order of their calls explains all that they were told."""
        await _check_histories(h, fencing=False)

    @scenario(Feature.FENCING)
    async def test_concurrent_histories_with_tokens_are_linearizable(self, h: H) -> None:
        await _check_histories(h, fencing=True)

    @scenario()
    async def test_a_cancelled_acquire_leaves_the_lock_to_others(self, h: H) -> None:
        for n in range(30):
            name = f"l{n}"
            task = asyncio.ensure_future(h.adapter.acquire(name, h.unit, wait=h.unit))
            for _ in range(n % 8):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await h.pass_time(h.unit * 1.2)
        for n in range(30):
            await _take(h.adapter, f"l{n}", h.unit)


async def _check_histories(h: H, *, fencing: bool) -> None:
    managers = [h.adapter, await h.second()]
    # By the backend's own time leases do not end while this lasts: an answer would tell late what was true a while ago.
    ttl, pass_time = (600.0, None) if h.clock is None else (h.unit, h.pass_time)
    for seed in range(5):
        history = History(h.now)
        clients = [RecordingLocks(managers[n % 2], history, f"client {n}") for n in range(4)]
        names = [f"l{seed}", f"m{seed}", f"n{seed}"]
        await drive_locks(clients, names, seed=seed, ttl=ttl, pass_time=pass_time)
        for verdict in check(history, LockModel(fencing=fencing)):
            assert verdict.linearizable, str(verdict)


class LockManagerSuite(_Leases, _Waiting, LockCrashSuite):
    """Everything that a LockManager must do. Override ``harness``; see ``loom.testing.suites.base``."""
