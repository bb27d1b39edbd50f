"""The locks on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.clock import Clock
from loom.errors import LockLostError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import Lease, LockManager
from loom.testing.clock import ManualClock
from loom.testing.machines.locks import locks_machine
from loom.testing.suites.base import Harness, eventually
from loom.testing.suites.child import run_child
from loom.testing.suites.locks import LockManagerSuite
from loom.testing.suites.locks_crash import enter_and_report
from loom_redis.lock import RedisLockManager
from loom_redis.plugin import loom_register_adapters
from loom_redis.proxy import LossyProxy
from loom_redis.testing import RedisServer

MODEL = settings(max_examples=30, stateful_step_count=30, deadline=None)


def connect(url: str, clock: Clock | None = None) -> RedisLockManager:
    context = AdapterContext() if clock is None else AdapterContext(clock=clock)
    return RedisLockManager.from_url(LoomURL.parse(url), context)


class TestRedisLockManager(LockManagerSuite):
    """By the server's time."""

    spec = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("locks", "redis"))

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[LockManager]:
        return Harness(lambda: connect(self.url), url=self.url)


class TestRedisLockManagerByATestsClock(LockManagerSuite):
    """By a clock that was handed in."""

    spec = TestRedisLockManager.spec

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[LockManager]:
        # The clients share a connection: a call tells the time at which it was sent, and by connections of their own
        # one could overtake another while the test moves the clock.
        clock, url = ManualClock(), LoomURL.parse(self.url)
        context = AdapterContext(clock)
        return Harness(lambda: RedisLockManager.from_url(url, context), clock=clock, url=self.url)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(locks_machine(lambda clock: connect(fresh_url(), clock)), settings=MODEL)


async def take(locks: LockManager, name: str = "l", ttl: float = 600.0, wait: float = 0.0) -> Lease:
    lease = await locks.acquire(name, ttl, wait=wait)
    assert lease is not None
    return lease


async def in_line(locks: RedisLockManager, count: int, name: str = "l") -> None:
    """Until so many wait, in all processes."""
    key = locks._redis.key("locks", name, "line")

    async def reached() -> bool:
        return bool(await locks._redis.call("ZCARD", key) == count)

    await eventually(reached, f"{count} wait for {name}")


async def test_waiters_of_all_clients_are_served_in_the_order_in_which_they_came(redis_url: str) -> None:
    async with connect(redis_url) as one, connect(redis_url) as two, connect(redis_url) as three:
        clients, served = [one, two, three], list[int]()
        held = await take(one)

        async def enter(n: int) -> None:
            lease = await take(clients[n % 3], wait=60)
            served.append(n)
            await clients[n % 3].release(lease)

        tasks = []
        for n in range(30):
            tasks.append(asyncio.ensure_future(enter(n)))
            await in_line(one, n + 1)
        await two.release(held)
        await asyncio.gather(*tasks)
        assert served == list(range(30))
        assert await take(three)


async def test_a_release_and_the_next_lease_are_one_round_trip_within_a_client(redis_url: str) -> None:
    async with connect(redis_url) as locks:
        held = await take(locks)
        waiter = asyncio.ensure_future(take(locks, wait=60))
        await in_line(locks, 1)
        scripts = locks._redis.run
        ran = []

        async def counted(*arguments: object, **options: object) -> object:
            ran.append(arguments)
            return await scripts(*arguments, **options)  # type: ignore[arg-type]

        locks._redis.run = counted  # type: ignore[method-assign]
        await locks.release(held)
        assert (await waiter).token == held.token + 1
        assert len(ran) == 1


@pytest.mark.crash
async def test_a_waiter_that_was_killed_does_not_hold_up_the_line(redis_url: str) -> None:
    async with connect(redis_url) as locks:
        held = await take(locks)
        async with (
            run_child(enter_and_report, locks, redis_url, "1") as one,
            run_child(enter_and_report, locks, redis_url, "1") as two,
        ):
            await in_line(locks, 2)
            behind = asyncio.ensure_future(take(locks, wait=60))
            await in_line(locks, 3)
            await one.kill()
            await two.kill()
            began = time.monotonic()
            await locks.release(held)
            await behind
            assert time.monotonic() - began < 20, "it was the leases of the dead that let it pass"
            await in_line(locks, 0)


@pytest.mark.crash
async def test_a_waiter_that_hangs_is_passed_over_and_keeps_its_place(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(redis_url, clock) as locks:
        held = await take(locks)
        async with run_child(enter_and_report, locks, redis_url, "1") as child:
            await in_line(locks, 1)
            os.kill(child._process.pid, signal.SIGSTOP)
            first = asyncio.ensure_future(take(locks, wait=60))
            await in_line(locks, 2)
            second = asyncio.ensure_future(take(locks, wait=60))
            await in_line(locks, 3)
            clock.advance(20)  # no sign of life for longer than ten seconds
            await locks.release(held)
            lease = await first
            clock.set_wall(time.time())
            os.kill(child._process.pid, signal.SIGCONT)
            await in_line(locks, 2)
            await locks.release(lease)
            assert await child.read() == lease.token + 1
            await locks.release(await second)


async def test_cancelled_waiters_leave_nothing_behind(redis_url: str) -> None:
    async with connect(redis_url) as locks, connect(redis_url) as other:
        for turns in range(40):
            held = await take(locks)
            tasks = [asyncio.ensure_future(take(client, wait=60)) for client in (locks, other, locks)]
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns % 2:
                await in_line(locks, 3)
                release = asyncio.ensure_future(locks.release(held))
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await (release if turns % 2 else locks.release(held))
            await in_line(locks, 0)
            # What was handed to one that was cancelled just then is given back at once.
            assert await other.release(await take(other, wait=5))
        assert locks._lines == other._lines == {}


async def test_short_waits_end_in_a_lease_or_in_nothing(redis_url: str) -> None:
    async with connect(redis_url) as one, connect(redis_url) as two:
        inside, got, in_vain = 0, 0, 0

        async def enter(n: int) -> None:
            nonlocal inside, got, in_vain
            for round_ in range(40):
                client = (one, two)[n % 2]
                lease = await client.acquire("l", 60, wait=0.002 * ((n + round_) % 8))
                if lease is None:
                    in_vain += 1
                    continue
                inside += 1
                got += 1
                assert inside == 1
                await asyncio.sleep(0.001)
                inside -= 1
                assert await client.release(lease)

        await asyncio.gather(*(enter(n) for n in range(10)))
        assert got
        assert in_vain
        await in_line(one, 0)
        await one.release(await take(two, wait=5))


async def test_replies_that_are_lost_lose_neither_lease_nor_release(redis_server: RedisServer) -> None:
    async with (
        LossyProxy(redis_server.port) as proxy,
        connect(f"{proxy.url}?namespace=lossy-locks") as locks,
        connect(f"{redis_server.url}?namespace=lossy-locks") as other,
    ):
        assert await locks.release(await take(locks))
        for n in range(4):
            proxy.lose_reply_to(b"acquire")
            lease = await take(locks)
            proxy.lose_reply_to(b"renew")
            lease = await locks.renew(lease, 600)
            waiter = asyncio.ensure_future(take((locks, other)[n % 2], wait=60))
            await in_line(other, 1)
            proxy.lose_reply_to(b"release")
            assert await locks.release(lease), "it was this call that had released it"
            assert not await locks.release(lease)
            following = await waiter
            assert following.token == lease.token + 1
            assert await other.release(following)
        assert proxy.lost == 12


@pytest.mark.crash
async def test_tokens_leases_and_waiters_outlive_a_killed_server(tmp_path: Path) -> None:
    with RedisServer(tmp_path, appendfsync="always") as server:
        async with connect(server.url) as locks, connect(server.url) as other:
            held = await take(locks)
            await locks.release(await take(locks, "free"))
            waiters = []
            for n, client in enumerate((locks, other)):
                waiters.append(asyncio.ensure_future(take(client, wait=60)))
                await in_line(locks, n + 1)
            server.kill()
            await asyncio.to_thread(server.start)
            assert await locks.holder("l") == held
            assert (await take(other, "free")).token == 2
            await locks.release(held)
            for n, (client, waiter) in enumerate(zip((locks, other), waiters, strict=True)):
                lease = await waiter
                assert lease.token == held.token + 1 + n
                await client.release(lease)
            with pytest.raises(LockLostError):
                await locks.renew(held, 5)


async def test_a_flushed_script_and_a_full_memory(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with connect(server.url) as locks:
            held = await take(locks)
            server.command("SCRIPT", "FLUSH")
            held = await locks.renew(held, 600)
            server.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(StoreUnavailableError, match="memory is full"):
                await locks.acquire("m", 5)
            assert await locks.holder("m") is None
            held = await locks.renew(held, 600)
            assert await locks.release(held), "what is held can be given back"
            assert await locks.holder("l") is None
            server.command("CONFIG", "SET", "maxmemory", "0")
            assert (await take(locks)).token == held.token + 1


async def test_closing_ends_what_waits(redis_url: str) -> None:
    async with connect(redis_url) as other:
        held = await take(other)
        locks = connect(redis_url)
        await locks.start()
        await locks.start()
        waiter = asyncio.ensure_future(locks.acquire("l", 60, wait=60))
        await in_line(other, 1)
        cancelled = asyncio.ensure_future(take(locks, wait=60))
        await in_line(other, 2)
        cancelled.cancel()
        await locks.close()
        await locks.close()
        assert await waiter is None
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        await in_line(other, 0)
        assert await other.release(held)
