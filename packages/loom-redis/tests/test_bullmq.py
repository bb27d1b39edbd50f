"""BullMQ queues by themselves: the conformance suite, and what is particular to BullMQ."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom.errors import ConfigurationError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import MessageQueue, OutgoingMessage, QueueDepth
from loom.testing.servers import free_port
from loom.testing.suites.base import Harness
from loom.testing.suites.keys import HOSTILE_KEYS
from loom.testing.suites.queue import MessageQueueSuite
from loom.testing.suites.queue_helpers import drain
from loom_redis.bullmq import BullMQMessageQueue
from loom_redis.bullmq_names import id_of, job_id, prefix_of, queue_of
from loom_redis.bullmq_scripts import BullScripts, load_bull_scripts
from loom_redis.plugin import loom_register_adapters
from loom_redis.testing import RedisServer

SPEC = next(spec for spec in loom_register_adapters() if spec.scheme == "bullmq")


def connect(url: str) -> BullMQMessageQueue:
    return BullMQMessageQueue.from_url(LoomURL.parse(url), AdapterContext())


@pytest.fixture
def bull_url(redis_url: str) -> str:
    """BullMQ on the server of the tests, under a prefix of this test's own."""
    return redis_url.replace("redis://", "bullmq://")


class TestBullMQMessageQueue(MessageQueueSuite):
    """By real time: locks expire in the server."""

    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, bull_url: str) -> None:
        self.url = bull_url

    def harness(self, tmp_path: Path) -> Harness[MessageQueue]:
        return Harness(lambda: connect(self.url), url=self.url)


def message(id: str, **options: Any) -> OutgoingMessage:
    return OutgoingMessage(**{"queue": "q", "id": id, "body": b"\x00"} | options)


@pytest.fixture
async def queue(bull_url: str) -> AsyncIterator[BullMQMessageQueue]:
    async with connect(bull_url) as queue:
        yield queue


async def keys(redis_server: RedisServer, url: str) -> dict[str, float]:
    """Every key under the prefix of ``url``, with the seconds that are left to it; infinite when it stays."""
    prefix = url.partition("namespace=")[2]
    async with connect(url) as queue:
        call = queue._redis.call
        names = [name.decode() for name in await call("KEYS", f"{prefix}:*")]
        left = [await call("PTTL", name) for name in names]
    return {name: ms / 1000 if ms >= 0 else float("inf") for name, ms in zip(names, left, strict=True)}


class TestWhatIsLeft:
    async def test_a_queue_of_messages_that_expire_is_forgotten(
        self, queue: BullMQMessageQueue, bull_url: str, redis_server: RedisServer
    ) -> None:
        until = time.time() + 100
        await queue.send_many([message(id, expires_at=until, delay=d) for id, d in (("a", 0), ("b", 0), ("c", 50))])
        [first] = await queue.receive(["q"])
        await queue.ack([first])
        [second] = await queue.receive(["q"])
        await queue.nack(second, delay=30)
        left = await keys(redis_server, bull_url)
        assert any(name.endswith(":delayed") for name in left)
        assert max(left.values()) <= max(160, queue.dedupe_window)
        await queue.send(message("later", expires_at=until + 1000))
        assert 1000 < max((await keys(redis_server, bull_url)).values()) <= 1160

    @pytest.mark.parametrize("reason", ["a message without an expiry", "a dead letter", "Node"])
    async def test_it_is_kept_for_what_does_not_expire(
        self, queue: BullMQMessageQueue, bull_url: str, redis_server: RedisServer, reason: str
    ) -> None:
        await queue.send(message("brief", expires_at=time.time() + 100))
        if reason == "Node":
            await queue._redis.call("HSET", queue._prefix("q") + "meta", "version", "bullmq:6")
        if reason == "a message without an expiry":
            await queue.send(message("lasting"))
        [delivery] = await queue.receive(["q"])
        if reason == "a dead letter":
            assert await queue.dead_letter(delivery, "why")
        left = await keys(redis_server, bull_url)
        lasting = {name.rpartition(":")[2] for name, seconds in left.items() if seconds == float("inf")}
        expected = {"meta", "id", "events", *({"failed", "brief"} if reason == "a dead letter" else {"active"})}
        assert expected <= lasting

    async def test_data_that_expired_under_a_message_is_not_delivered(self, queue: BullMQMessageQueue) -> None:
        await queue.send_many([message("gone", expires_at=time.time() + 100), message("there")])
        await queue._redis.call("DEL", queue._prefix("q") + "gone")
        assert [one.id for one in await queue.receive(["q"], limit=9)] == ["there"]
        assert (await queue.depth("q")).leased == 1

    async def test_a_job_that_somebody_has_spoilt_stops_nobody(self, queue: BullMQMessageQueue) -> None:
        await queue.send_many([message(id, priority=1) for id in ("a", "b", "c")])
        job = queue._prefix("q") + "a"
        for n, (field, text) in enumerate({"opts": '{"loom":7', "atm": "x", "priority": "y", "timestamp": ""}.items()):
            await queue._redis.call("HSET", job, field, text)
            batch = await queue.receive(["q"], limit=9)
            assert sorted(one.id for one in batch) == ["a", "b", "c"], field
            for delivery in batch:
                assert await queue.nack(delivery, delay=0.001 * (n % 2))
            await asyncio.sleep(0.01)

    async def test_finished_ids_are_remembered_for_the_window_only(self, bull_url: str) -> None:
        async with connect(f"{bull_url}&dedupe_window=0.6") as queue:
            for finish in ("ack", "discard", "nothing"):
                assert await queue.send(message(finish))
                [delivery] = await queue.receive(["q"], lease=60)
                if finish == "ack":
                    await queue.ack([delivery])
                elif finish == "discard":
                    await queue.dead_letter(delivery, "why")
                    assert await queue.discard("q", [finish]) == [True]
                assert not await queue.send(message(finish))
            await asyncio.sleep(0.7)
            outcomes = await queue.send_many([message(id) for id in ("ack", "discard", "nothing")])
            assert outcomes == [True, True, False]


class TestWaiting:
    async def test_who_waits_asks_the_server_for_next_to_nothing(
        self, queue: BullMQMessageQueue, redis_server: RedisServer
    ) -> None:
        await queue.send(message("later", delay=60))
        names = [f"q{n}" for n in range(100)]

        async def commands() -> int:
            info: bytes = await queue._redis.call("INFO", "stats")
            return int(info.partition(b"total_commands_processed:")[2].partition(b"\r")[0])

        before = await commands()
        assert await queue.receive(["q", *names], wait=1.5) == []
        assert await commands() - before < 1500, "three looks of some commands a queue"

    async def test_a_cancelled_receiver_leaves_its_wakeup_to_the_next(self, queue: BullMQMessageQueue) -> None:
        for n in range(30):
            first = asyncio.ensure_future(queue.receive(["q"], wait=20))
            await asyncio.sleep(0.02)
            second = asyncio.ensure_future(queue.receive(["q"], wait=20))
            await asyncio.sleep(0.02)
            sending = asyncio.ensure_future(queue.send(message(f"m{n}")))
            for _ in range(n % 6):
                await asyncio.sleep(0)
            first.cancel()
            await sending
            got = await asyncio.gather(first, return_exceptions=True)
            if isinstance(got[0], list):
                second.cancel()
                await asyncio.wait([second])
                await queue.ack(got[0])
            else:
                await queue.ack(await second)

    async def test_a_cancelled_receiver_gives_back_what_it_had_taken(self, bull_url: str) -> None:
        names = [f"m{n}" for n in range(5)]
        async with connect(bull_url) as queue:
            await queue.send_many([message(name) for name in names])
            for n in range(12):
                task = asyncio.ensure_future(queue.receive(["q"], limit=5, lease=600))
                for _ in range(n % 6):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    for delivery in reversed(await task):
                        await queue.nack(delivery)
        async with connect(bull_url) as queue:
            back = [(one.id, one.attempts) for one in await queue.receive(["q"], limit=9)]
            assert sorted(back) == [(name, 0) for name in names]

    @pytest.mark.slow
    async def test_everything_survives_a_server_that_is_killed(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, appendfsync="always") as server:
            async with connect(server.url.replace("redis://", "bullmq://")) as queue:
                await queue.send_many([message(name) for name in ("done", "dead", "held", "back", "ready")])
                done, dead, held, back = await queue.receive(["q"], limit=4, lease=600)
                await queue.begin([done, dead, held, back])
                await queue.ack([done])
                await queue.dead_letter(dead, "why")
                await queue.nack(back, delay=600)
                before = await queue.depth("q")
                server.kill()
                await asyncio.to_thread(server.start)
                assert await queue.depth("q") == before == QueueDepth(ready=1, delayed=1, leased=1, dead=1)
                assert not await queue.send(message("done"))
                assert [(one.reason, one.attempts) for one in await queue.dead_letters("q")] == [("why", 1)]
                assert await queue.extend([held], 600) == [True]
                assert await queue.ack([held]) == [True]

    @pytest.mark.slow
    async def test_a_server_that_comes_back_is_found(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, appendfsync="always") as server:
            async with connect(server.url.replace("redis://", "bullmq://")) as queue:
                await queue.send(message("kept", delay=1.0))
                task = asyncio.ensure_future(queue.receive(["q"], wait=30))
                await asyncio.sleep(0.2)
                server.kill()
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.start)
                [delivery] = await task
                assert delivery.id == "kept"

    async def test_a_server_without_memory_refuses_and_loses_nothing(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, settings=(("maxmemory", "8mb"),)) as server:
            async with connect(server.url.replace("redis://", "bullmq://")) as queue:
                batches = [[message(f"{n}.{i}", body=b"\x80" * 5000) for i in range(10)] for n in range(500)]
                accepted: list[bool] = []

                async def fill() -> None:
                    for batch in batches:
                        accepted.extend(await queue.send_many(batch))

                with pytest.raises(StoreUnavailableError, match="memory is full"):
                    await fill()
                assert await queue.depth("q") == QueueDepth(ready=len(accepted))
                server.command("CONFIG", "SET", "maxmemory", "0")
                refused = batches[len(accepted) // 10]
                assert await queue.send_many(refused) == [True] * 10, "sending the same ids again is safe"
                assert len(await drain(queue)) == len(accepted) + 10


class TestPriorities:
    async def test_any_mixture_is_received_in_order(self, queue: BullMQMessageQueue) -> None:
        chance = random.Random(7)
        order = [chance.choice([0, 0, 1, 2, 3, 9, -1, -5]) for _ in range(300)]
        sent = [message(f"{n:03}", priority=priority) for n, priority in enumerate(order)]
        await queue.send_many(sent)
        received = [one.id for one in await queue.receive(["q"], limit=300)]
        assert received == [one.id for one in sorted(sent, key=lambda one: (-one.priority, one.id))]

    async def test_what_comes_back_goes_before_its_equals(self, queue: BullMQMessageQueue) -> None:
        await queue.send_many([message(f"{p}.{n}", priority=p) for p in (0, 3, -2) for n in range(3)])
        await queue.send(message("7", priority=7))
        batch = await queue.receive(["q"], limit=9)
        for delivery in batch:
            assert await queue.nack(delivery)
        again = await queue.receive(["q"], limit=10)
        assert [one.priority for one in again] == [7, 3, 3, 3, 0, 0, 0, -2, -2, -2]

    async def test_a_delay_does_not_lose_it(self, queue: BullMQMessageQueue) -> None:
        await queue.send_many([message(str(p), priority=p, delay=0.2) for p in (0, 4, -3, 6)])
        await queue.send(message("1", priority=1))
        await asyncio.sleep(0.3)
        assert [one.id for one in await queue.receive(["q"], limit=9)] == ["6", "4", "1", "0", "-3"]


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            (b'{"a": 1}', '{"a": 1}'),
            (b" [1,\n2] ", " [1,\n2] "),
            (b'"\xc3\xa9"', '"é"'),
            (b"5", "5"),
            (b"", '{"loom":1,"body":""}'),
            (b"\x93\x01\x02\x03", '{"loom":1,"body":"kwECAw=="}'),
            (b"NaN", '{"loom":1,"body":"TmFO"}'),
            (b'"\xff"', '{"loom":1,"body":"Iv8i"}'),
            (b'{"loom":1,"body":"AA=="}', '{"loom":1,"body":"eyJsb29tIjoxLCJib2R5IjoiQUE9PSJ9"}'),
            (b"[" * 100_000 + b"]" * 100_000, None),
        ],
    )
    async def test_json_is_sent_as_it_is_and_everything_comes_back(
        self, queue: BullMQMessageQueue, body: bytes, shown: str | None
    ) -> None:
        await queue.send(message("m", body=body))
        data = await queue._redis.call("HGET", queue._prefix("q") + "m", "data")
        assert shown is None or data.decode() == shown
        [delivery] = await queue.receive(["q"])
        assert delivery.body == body


class TestNames:
    @given(st.text(min_size=1, max_size=30).filter(str.isprintable) | st.sampled_from(HOSTILE_KEYS))
    def test_ids_come_back(self, id: str) -> None:
        assert id_of(job_id(id)) == (id, True)
        assert ":" not in job_id(id)

    @pytest.mark.parametrize("job", ["1", "-7", "50%", "a%20b", "wait", "repeat:x:1"])
    def test_ids_that_others_gave_stay(self, job: str) -> None:
        assert id_of(job) == (job, False)

    @pytest.mark.parametrize("id", ["invoice/7", "a b", "é", "{}", "2fa", "7.5", "waits"])
    def test_readable_ids_are_the_same_in_node(self, id: str) -> None:
        assert job_id(id) == id

    @pytest.mark.parametrize("name", HOSTILE_KEYS)
    def test_queues_come_back(self, name: str) -> None:
        start, _, rest = prefix_of("bull", name).partition(":")
        assert (start, queue_of(rest[:-1])) == ("bull", name)


class TestConfiguration:
    def test_without_the_package_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch, bull_url: str) -> None:
        load_bull_scripts.cache_clear()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigurationError, match=r"pip install 'loom-redis\[bullmq\]'"):
            connect(bull_url)

    def test_another_layout_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"no script addStandardJob-9\.lua"):
            BullScripts(tmp_path)

    @pytest.mark.parametrize("option", ["attempts=0", "attempts=many", "events=-1", "priority=1", "tls=2"])
    def test_wrong_options_are_refused(self, bull_url: str, option: str) -> None:
        with pytest.raises(ConfigurationError, match=option.partition("=")[0]):
            connect(f"{bull_url}&{option}")

    def test_the_prefix_is_the_one_of_node(self) -> None:
        queue = connect("bullmq://localhost:6379/3?dedupe_window=7")
        assert (queue._prefix("q"), queue._redis.options.db, queue.dedupe_window) == ("bull:q:", 3, 7.0)

    async def test_tls_is_spoken_when_waiting_too(self, tmp_path: Path) -> None:
        trustme = pytest.importorskip("trustme", reason="pip install trustme, which makes the certificates")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        server = authority.issue_cert("127.0.0.1")
        server.private_key_pem.write_to_path(tmp_path / "key.pem")
        server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        port = free_port()
        files = [
            (f"tls-{kind}-file", str(tmp_path / f"{file}.pem"))
            for kind, file in (("cert", "cert"), ("key", "key"), ("ca-cert", "ca"))
        ]
        settings = (("tls-port", str(port)), ("tls-auth-clients", "no"), *files)
        with RedisServer(tmp_path / "redis", settings=settings):
            url = f"bullmq://127.0.0.1:{port}/0?tls=true&ssl_ca_certs={tmp_path}/ca.pem"
            async with connect(url) as queue:
                task = asyncio.ensure_future(queue.receive(["q"], wait=20))
                await asyncio.sleep(0.2)
                await queue.send(message("m"))
                assert [one.id for one in await task] == ["m"]

    async def test_facts_tell_of_durability(self, queue: BullMQMessageQueue) -> None:
        facts = await queue.facts()
        assert (facts["appendonly"], facts["appendfsync"], facts["maxmemory-policy"]) == ("yes", "always", "noeviction")
        assert {"redis", "bullmq", "prefix"} <= set(facts)
