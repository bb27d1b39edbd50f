"""The queue on Redis: the conformance suite, the model, and what is particular to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.clock import Clock
from loom.errors import StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import MessageQueue, OutgoingMessage, QueueDepth
from loom.testing import ManualClock
from loom.testing.machines.queue import queue_machine
from loom.testing.suites.base import Harness
from loom.testing.suites.queue import MessageQueueSuite
from loom_redis.plugin import loom_register_adapters
from loom_redis.proxy import LossyProxy
from loom_redis.queue import RedisMessageQueue
from loom_redis.testing import RedisCluster, RedisServer

_numbers = itertools.count(1)
MODEL = settings(max_examples=40, stateful_step_count=40, deadline=None)


def connect(url: str, clock: Clock | None = None) -> RedisMessageQueue:
    return RedisMessageQueue.from_url(LoomURL.parse(url), AdapterContext(clock))


class TestRedisMessageQueue(MessageQueueSuite):
    spec = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("queue", "redis"))

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        clock = ManualClock()
        return Harness(lambda: connect(self.url, clock), clock=clock, url=self.url)


@pytest.mark.slow
class TestByTheServersTime(TestRedisMessageQueue):
    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        return Harness(lambda: connect(self.url), url=self.url, unit=2.0)


def test_it_agrees_with_the_model(fresh_url: Callable[[], str]) -> None:
    run_state_machine_as_test(queue_machine(lambda clock: connect(fresh_url(), clock)), settings=MODEL)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.mark.slow
class TestOnACluster(TestRedisMessageQueue):
    """Three masters: a script sees the keys of one queue only, and whoever waits is told by any of them."""

    @pytest.fixture(autouse=True)
    def _server(self, cluster: RedisCluster) -> None:
        self.url = f"{cluster.url}?namespace=queue-{next(_numbers)}"


def message(
    id: str, *, queue: str = "q", group: str = "", body: bytes = b"body", delay: float = 0.0
) -> OutgoingMessage:
    return OutgoingMessage(queue=queue, id=id, group=group, body=body, delay=delay)


async def keys_of(queue: RedisMessageQueue) -> list[bytes]:
    keys: list[bytes] = await queue._redis.call("KEYS", f"{queue._redis.options.namespace}:q:*")
    return sorted(key.rpartition(b":")[2] for key in keys)


async def test_scripts_that_were_flushed_are_sent_again(redis_url: str, redis_server: RedisServer) -> None:
    async with connect(redis_url) as queue:
        for n in range(3):
            redis_server.command("SCRIPT", "FLUSH")
            assert await queue.send(message(f"m{n}"))
            redis_server.command("SCRIPT", "FLUSH")
            [delivery] = await queue.receive(["q"])
            redis_server.command("SCRIPT", "FLUSH")
            assert await queue.begin([delivery]) == [True]
            redis_server.command("SCRIPT", "FLUSH")
            assert await queue.ack([delivery]) == [True]
            assert await queue.depth("q") == QueueDepth()


async def test_nothing_is_left_of_an_emptied_queue_but_ids_and_those_are_pruned(redis_url: str) -> None:
    clock = ManualClock()
    async with connect(f"{redis_url}&dedupe_window=10", clock) as queue:
        for n in range(60):
            await queue.send_many([message(f"m{n}"), message(f"g{n}", group="g"), message(f"l{n}", delay=0.5)])
            await queue.ack(await queue.receive(["q"], limit=9))
            clock.advance(1.0)
            await queue.ack(await queue.receive(["q"], limit=9))
            assert await keys_of(queue) == [b"finished"]
        key = queue._scripts.keys("")[3]
        assert await queue._redis.call("ZCARD", key) <= 3 * 11
        clock.advance(11.0)
        await queue.send(message("last"))
        await queue.ack(await queue.receive(["q"]))
        assert await queue._redis.call("ZCARD", key) <= 3 * 11 - 8


async def test_256_queues_are_received_from_at_once_and_none_starves(redis_url: str) -> None:
    names = [f"shard/{n}" for n in range(256)]
    async with connect(redis_url) as queue:
        await queue.send_many([message(f"{name}/{n}", queue=name) for name in names for n in range(20)])
        for limit in (256, 100):
            seen: set[str] = set()
            for _ in range(256 // limit + 2):
                batch = await queue.receive(names, limit=limit)
                assert len(batch) == limit
                seen |= {delivery.queue for delivery in batch}
                assert await queue.ack(batch) == [True] * limit
            assert seen == set(names), f"{256 - len(seen)} queues were not served"


async def test_a_waiting_receive_asks_for_nothing(redis_url: str, redis_server: RedisServer) -> None:
    def commands() -> int:
        text = redis_server.command("INFO", "commandstats").decode()
        return sum(
            int(line.partition("calls=")[2].split(",")[0])
            for line in text.splitlines()
            if line.startswith("cmdstat_") and not line.startswith("cmdstat_info")
        )

    async with connect(redis_url) as queue, connect(redis_url) as sender:
        names = [f"q{n}" for n in range(256)]
        receiving = asyncio.ensure_future(queue.receive(names, limit=9, wait=30.0))
        await asyncio.sleep(0.2)
        before = commands()
        await asyncio.sleep(1.0)
        assert commands() == before
        await sender.send(message("m", queue="q77"))
        assert [delivery.id for delivery in await receiving] == ["m"]
        text = redis_server.command("INFO", "commandstats").decode()
        assert "cmdstat_publish" in text


async def test_a_waiter_is_handed_the_message_by_the_script_that_sent_it(redis_url: str) -> None:
    async with connect(redis_url) as queue, connect(redis_url) as sender:
        receiving = asyncio.ensure_future(queue.receive(["q"], wait=30.0))
        await asyncio.sleep(0.1)
        ran: list[str] = []
        run = queue._redis.run

        async def counting(script: Any, *arguments: Any, **options: Any) -> Any:
            ran.append(script.name)
            return await run(script, *arguments, **options)

        queue._redis.run = counting  # type: ignore[method-assign]
        await sender.send(message("m"))
        [delivery] = await receiving
        assert ran == []
        assert await queue.ack([delivery]) == [True]


async def test_a_message_is_not_given_to_a_waiter_that_is_gone(redis_url: str) -> None:
    gone = connect(redis_url)
    await gone.start()
    receiving = asyncio.ensure_future(gone.receive(["q"], wait=30.0))
    await asyncio.sleep(0.1)
    gone._redis._shut()  # as a kill does: nobody says good-bye
    async with connect(redis_url) as queue:
        await asyncio.sleep(0.1)
        await queue.send(message("m"))
        assert [delivery.id for delivery in await queue.receive(["q"])] == ["m"]
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await receiving


async def test_a_send_whose_reply_is_lost_is_known_as_its_own(redis_server: RedisServer) -> None:
    async with LossyProxy(redis_server.port) as proxy, connect(f"{proxy.url}?namespace=lossy-send") as queue:
        await queue.send(message("old"))
        proxy.lose_reply_to(b"EVALSHA")
        assert await queue.send_many([message("old"), message("new"), message("new")]) == [False, True, False]
        assert proxy.lost == 1
        assert (await queue.depth("q")).ready == 2


async def test_a_receive_whose_reply_is_lost_gets_what_it_had_leased(redis_server: RedisServer) -> None:
    async with LossyProxy(redis_server.port) as proxy, connect(f"{proxy.url}?namespace=lossy-receive") as queue:
        await queue.send_many([message(f"m{n}", group="g", body=b"%d" % n) for n in range(20)])
        proxy.lose_reply_to(b"EVALSHA")
        batch = await queue.receive(["q"], limit=10)
        assert proxy.lost == 1
        assert [(one.id, one.body) for one in batch] == [(f"m{n}", b"%d" % n) for n in range(10)]
        assert (await queue.depth("q")).leased == 10
        proxy.lose_reply_to(b"EVALSHA")
        assert await queue.begin(batch) == [True] * 10
        proxy.lose_reply_to(b"EVALSHA")
        assert await queue.ack(batch[1:]) == [True] * 9
        assert await queue.nack(batch[0])
        [again] = await queue.receive(["q"])
        assert (again.id, again.attempts) == ("m0", 1), "an attempt is charged once"
        proxy.lose_reply_to(b"EVALSHA")
        assert await queue.dead_letter(again, "why")
        proxy.lose_reply_to(b"EVALSHA")
        assert await queue.redrive("q", ["m0", "m1"]) == [True, False]
        assert proxy.lost == 5


async def test_what_was_handed_over_a_lost_connection_is_found_again(redis_server: RedisServer) -> None:
    namespace = "namespace=lossy-handover"
    async with (
        LossyProxy(redis_server.port) as proxy,
        connect(f"{proxy.url}?{namespace}") as queue,
        connect(f"{redis_server.url}?{namespace}") as sender,
    ):
        receiving = asyncio.ensure_future(queue.receive(["q"], wait=30.0))
        await asyncio.sleep(0.1)
        proxy.lose_reply_to(b"PING")
        pinging = asyncio.ensure_future(queue._redis.call("PING", repeatable=True))
        redis_server.pause()  # so that the reply and what is published leave together
        sending = asyncio.ensure_future(sender.send(message("m")))
        await asyncio.sleep(0.05)
        redis_server.go_on()
        assert await sending
        await pinging
        async with asyncio.timeout(5):
            assert [delivery.id for delivery in await receiving] == ["m"]
        assert proxy.lost == 1


@pytest.mark.crash
async def test_a_killed_server_loses_nothing_and_brings_nothing_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path, appendfsync="always") as server:
        sent, finished, again = list[str](), set[str](), list[str]()
        async with connect(server.url) as sender, connect(server.url) as worker:
            stop = False

            async def send(group: str) -> None:
                n = 0
                while not stop:
                    names = [f"{group}-{n + i:06}" for i in range(3)]
                    # True: the call itself tells that these were its own, killed server or not.
                    assert await sender.send_many([message(name, group=group) for name in names]) == [True] * 3
                    sent.extend(names)
                    n += 3

            async def work() -> None:
                while not stop or len(finished) < len(sent):
                    batch = await worker.receive(["q"], limit=20, lease=5.0, wait=0.2)
                    again.extend(one.id for one in batch if one.id in finished)
                    begun = await worker.begin(batch)
                    done = await worker.ack([one for one, held in zip(batch, begun, strict=True) if held])
                    finished.update(one.id for one, acked in zip(batch, done, strict=False) if acked)

            tasks = [asyncio.ensure_future(send(f"g{n}")) for n in range(5)]
            tasks += [asyncio.ensure_future(work()) for _ in range(3)]
            for _ in range(3):
                before = len(finished)
                while len(finished) < before + 500:
                    await asyncio.sleep(0.001)
                server.kill()
                await asyncio.to_thread(server.start)
            stop = True
            await asyncio.gather(*tasks)
        assert again == []
        assert finished == set(sent)
        async with connect(server.url) as queue:
            assert await queue.depth("q") == QueueDepth()
            assert await keys_of(queue) in ([b"finished"], [b"finished", b"waiters"])


async def test_a_closed_queue_leaves_no_waiter_behind_on_a_shared_connection(redis_url: str) -> None:
    context, url = AdapterContext(), LoomURL.parse(redis_url)
    closed, other = (RedisMessageQueue.from_url(url, context) for _ in range(2))
    await closed.start()
    await other.start()
    receiving = asyncio.ensure_future(closed.receive(["q"], wait=30.0))
    await asyncio.sleep(0.1)
    await closed.close()
    await closed.close()
    assert await receiving == []
    await other.send(message("m"))
    assert [delivery.id for delivery in await other.receive(["q"])] == ["m"]
    await other.close()


async def test_a_full_memory_refuses_and_nothing_is_half_written(tmp_path: Path) -> None:
    with RedisServer(tmp_path, settings=(("maxmemory", "8mb"),)) as server:
        async with connect(server.url) as queue:
            sent = 0

            async def fill_up() -> None:
                nonlocal sent
                for n in range(1000):
                    batch = [message(f"{n}/{m}", group=f"g{m % 7}", body=b"x" * 2000) for m in range(20)]
                    assert await queue.send_many(batch) == [True] * 20
                    sent += 20

            with pytest.raises(StoreUnavailableError, match="memory is full") as caught:
                await fill_up()
            assert not caught.value.unknown
            assert await queue.depth("q") == QueueDepth(ready=sent)
            with pytest.raises(StoreUnavailableError, match="memory is full"):
                await queue.receive(["q"], limit=9)
            assert await queue.depth("q") == QueueDepth(ready=sent), "nothing was leased"
            server.command("CONFIG", "SET", "maxmemory", "64mb")
            received = 0
            while batch := await queue.receive(["q"], limit=100):
                assert await queue.ack(batch) == [True] * len(batch)
                received += len(batch)
            assert received == sent
