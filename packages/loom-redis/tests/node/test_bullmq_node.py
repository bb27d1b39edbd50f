"""One queue, two languages: BullMQ's own package in Node produces and consumes next to Loom."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from loom.plugins import AdapterContext, LoomURL
from loom.ports import Delivery, MessageQueue, OutgoingMessage, QueueDepth
from loom.testing.suites.base import eventually
from loom.testing.suites.child import run_child
from loom.testing.suites.queue_crash import work_and_report
from loom_redis.bullmq import BullMQMessageQueue
from loom_redis.bullmq_markers import LONGEST_WAIT

pytestmark = pytest.mark.slow

NodeBull = Callable[..., Awaitable[Any]]


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url.replace("redis://", "bullmq://")


@pytest.fixture
async def queue(url: str) -> AsyncIterator[MessageQueue]:
    async with BullMQMessageQueue.from_url(LoomURL.parse(url), AdapterContext()) as queue:
        yield queue


def send(id: str, body: Any = None, **options: Any) -> OutgoingMessage:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OutgoingMessage(**{"queue": "jobs", "id": id, "body": raw} | options)


async def receive_one(queue: MessageQueue, wait: float = 20.0, lease: float = 30.0) -> Delivery:
    [delivery] = await queue.receive(["jobs"], wait=wait, lease=lease)
    return delivery


async def counts(node: NodeBull) -> dict[str, int]:
    found: dict[str, int] = await node("counts", queue="jobs")
    return {state: count for state, count in found.items() if count}


class TestNodeProduces:
    async def test_a_job_of_node_is_a_message(self, node: NodeBull, queue: MessageQueue) -> None:
        id = await node("add", queue="jobs", name="resize", data={"width": 7, "é": [None]}, opts={"jobId": "photo-1"})
        delivery = await receive_one(queue)
        assert (delivery.id, delivery.group, delivery.attempts) == (id, "resize", 0) == ("photo-1", "resize", 0)
        assert json.loads(delivery.body) == {"width": 7, "é": [None]}
        assert await counts(node) == {"active": 1}
        assert await queue.ack([delivery]) == [True]
        [job] = await node("jobs", queue="jobs", state="completed")
        assert (job["id"], job["attemptsMade"], job["returnvalue"], job["processedBy"]) == ("photo-1", 1, None, "loom")

    async def test_a_waiting_receiver_is_woken_by_node(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("counts", queue="jobs")
        task = asyncio.ensure_future(receive_one(queue, wait=20))
        await asyncio.sleep(0.3)
        start = time.monotonic()
        id = await node("add", queue="jobs", name="n", data=1, opts={})
        assert (await task).id == id == "1"
        assert time.monotonic() - start < LONGEST_WAIT - 1.0, "it has looked again of its own accord"

    async def test_jobs_that_bull_has_numbered_can_be_finished_and_redriven(
        self, node: NodeBull, queue: MessageQueue
    ) -> None:
        for data in "ab":
            await node("add", queue="jobs", name="n", data=data, opts={})
        assert await queue.send(send("1")), "a message called 1 is another than Bull's first job"
        first, second, ours = await queue.receive(["jobs"], limit=9)
        assert [first.id, second.id, ours.id] == ["1", "2", "1"]
        assert await queue.begin([second]) == [True]
        assert await queue.dead_letter(second, "it is blue")
        assert await queue.nack(first)
        assert await queue.ack([ours]) == [True]
        assert [letter.id for letter in await queue.dead_letters("jobs")] == ["2"]
        assert await queue.redrive("jobs", ["2", "3"]) == [True, False]
        assert {one.id: one.attempts for one in await queue.receive(["jobs"], limit=9)} == {"1": 0, "2": 0}

    async def test_delays_and_priorities_of_node_are_kept(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("add", queue="jobs", name="n", data=0, opts={"jobId": "late", "delay": 700})
        await node("add", queue="jobs", name="n", data=0, opts={"jobId": "low", "priority": 9})
        await node("add", queue="jobs", name="n", data=0, opts={"jobId": "high", "priority": 2})
        await node("add", queue="jobs", name="n", data=0, opts={"jobId": "none"})
        received = await queue.receive(["jobs"], limit=9)
        assert [(one.id, one.priority) for one in received] == [("none", 0), ("high", -2), ("low", -9)]
        assert await queue.depth("jobs") == QueueDepth(delayed=1, leased=3)
        assert (await receive_one(queue)).id == "late"

    async def test_removal_on_completion_is_as_node_asked(self, node: NodeBull, queue: MessageQueue) -> None:
        for id, option in (("gone", True), ("kept", False), ("counted", 1)):
            await node("add", queue="jobs", name="n", data=0, opts={"jobId": id, "removeOnComplete": option})
            await queue.ack([await receive_one(queue)])
            assert (await node("job", queue="jobs", job=id) is None) == (option is True)
        assert await counts(node) == {"completed": 1}, "as many as the last one asked for"

    async def test_bytes_and_an_expiry_can_come_from_node(self, node: NodeBull, queue: MessageQueue) -> None:
        data = {"loom": 1, "body": "AP8="}
        await node("add", queue="jobs", name="n", data=data, opts={"loom": {"group": "g", "expires_at": 1}})
        await node("add", queue="jobs", name="n", data=data, opts={"loom": {"group": "g", "expires_at": 4e9}})
        await node("add", queue="jobs", name="n", data={"loom": 1, "body": "?"}, opts={"loom": "nonsense"})
        whole, odd = await queue.receive(["jobs"], limit=9)
        assert (whole.id, whole.body, whole.group, whole.expires_at) == ("2", b"\x00\xff", "g", 4e9)
        assert odd.body == b'{"loom":1,"body":"?"}'

    async def test_a_child_that_loom_finishes_lets_its_parent_go(self, node: NodeBull, queue: MessageQueue) -> None:
        children = [{"name": "n", "queueName": "jobs", "data": n, "opts": {"jobId": f"child{n}"}} for n in range(2)]
        parent = {"name": "n", "queueName": "parents", "data": 0, "opts": {"jobId": "parent"}, "children": children}
        await node("flow", tree=parent)
        assert await queue.receive(["parents"]) == []
        assert await queue.depth("parents") == QueueDepth(delayed=1)
        first, second = await queue.receive(["jobs"], limit=9)
        assert await queue.ack([first]) == [True]
        assert await queue.receive(["parents"]) == []
        assert await queue.ack([second]) == [True]
        assert [one.id for one in await queue.receive(["parents"])] == ["parent"]

    async def test_a_queue_that_node_paused_gives_nothing(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("add", queue="jobs", name="n", data=0, opts={})
        await node("pause", queue="jobs")
        assert await queue.receive(["jobs"], wait=0.3) == []
        await queue.send(send("m"))
        task = asyncio.ensure_future(queue.receive(["jobs"], limit=9, wait=20))
        await asyncio.sleep(0.2)
        await node("resume", queue="jobs")
        assert [one.id for one in await task] == ["1", "m"]


class TestNodeConsumes:
    async def test_a_message_is_a_job(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("work", queue="jobs")
        await queue.send(send("invoice/7", {"total": 1.5, "é": [None]}, group="print"))
        await queue.send(send("raw", b"\x00\xff"))
        seen = await eventually(lambda: _seen(node, 2), "Node has worked on both")
        assert [(job["id"], job["name"]) for job in seen] == [("invoice/7", "print"), ("raw", "loom")]
        assert [job["data"] for job in seen] == [{"total": 1.5, "é": [None]}, {"loom": 1, "body": "AP8="}]
        await eventually(lambda: _is(queue, QueueDepth()), "both are done")
        assert await counts(node) == {"completed": 2}
        assert not await queue.send(send("invoice/7")), "finished in Node, it is a duplicate here"

    async def test_priorities_hold_for_workers_in_node(self, node: NodeBull, queue: MessageQueue) -> None:
        order = [0, 5, -1, 9, -7, 0, 5]
        await queue.send_many([send(f"{n}:{p}", priority=p) for n, p in enumerate(order)])
        assert await counts(node) == {"waiting": 5, "prioritized": 2}
        await node("work", queue="jobs")
        seen = await eventually(lambda: _seen(node, 7), "Node has worked on all")
        assert [job["id"] for job in seen] == ["3%3A9", "1%3A5", "6%3A5", "0%3A0", "5%3A0", "2%3A-1", "4%3A-7"]

    async def test_delays_hold_for_workers_in_node(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("work", queue="jobs")
        await queue.send_many([send("late", delay=0.8), send("now")])
        [delayed] = await node("jobs", queue="jobs", state="delayed")
        assert (delayed["id"], delayed["delay"]) == ("late", 800)
        assert [job["id"] for job in await eventually(lambda: _seen(node, 1), "now")] == ["now"]
        assert [job["id"] for job in await eventually(lambda: _seen(node, 2), "late")] == ["now", "late"]

    async def test_a_failure_in_node_is_a_dead_letter(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("work", queue="jobs", fail=1)
        await queue.send(send("m", {"a": 1}))
        [letter] = await eventually(lambda: queue.dead_letters("jobs"), "it has failed")
        assert (letter.id, letter.reason, letter.attempts) == ("m", "failed in Node: m", 1)
        assert json.loads(letter.body) == {"a": 1}
        assert await queue.redrive("jobs", ["m"]) == [True]
        await eventually(lambda: _is(queue, QueueDepth()), "Node's second try went well")
        assert await counts(node) == {"completed": 1}

    async def test_attempts_of_the_url_are_made_by_node(self, node: NodeBull, url: str) -> None:
        async with BullMQMessageQueue.from_url(LoomURL.parse(f"{url}&attempts=3"), AdapterContext()) as queue:
            await node("work", queue="jobs", fail=2)
            await queue.send(send("m"))
            seen = await eventually(lambda: _seen(node, 3), "three attempts")
            assert [job["attemptsMade"] for job in seen] == [0, 1, 2]
            await eventually(lambda: _is(queue, QueueDepth()), "the third went well")

    async def test_what_node_has_failed_and_may_retry_comes_to_loom(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("work", queue="jobs", fail=1)
        retry = {"jobId": "m", "attempts": 3, "backoff": 600}
        await node("add", queue="jobs", name="n", data=0, opts=retry)
        await eventually(lambda: _is(queue, QueueDepth(delayed=1)), "it waits for its second attempt")
        await node("stop", queue="jobs")
        delivery = await receive_one(queue)
        assert (delivery.id, delivery.attempts) == ("m", 1)
        assert await queue.begin([delivery]) == [True]
        assert await queue.nack(delivery)
        assert (await receive_one(queue)).attempts == 2


async def test_both_work_on_one_queue_and_each_job_is_done_once(node: NodeBull, queue: MessageQueue, url: str) -> None:
    names = [f"m{n:03}" for n in range(600)]
    done: list[str] = []
    stop = asyncio.Event()

    async def work(client: MessageQueue) -> None:
        while not stop.is_set():
            batch = await client.receive(["jobs"], limit=3, wait=0.3)
            await client.begin(batch)
            await asyncio.sleep(0.002)
            done.extend(one.id for one, fine in zip(batch, await client.ack(batch), strict=True) if fine)

    async def finished() -> bool:
        return await counts(node) == {"completed": 600}

    await node("work", queue="jobs", opts={"concurrency": 5})
    async with BullMQMessageQueue.from_url(LoomURL.parse(url), AdapterContext()) as other:
        workers = [asyncio.ensure_future(work(client)) for client in (queue, other, other)]
        for n in range(0, 300, 50):
            await queue.send_many([send(name) for name in names[n : n + 50]])
            for name in names[300 + n : 350 + n]:
                await node("add", queue="jobs", name="n", data=0, opts={"jobId": name})
        await eventually(finished, "everything is done, and nothing else is there")
        stop.set()
        await asyncio.gather(*workers)
    theirs = [job["id"] for job in await node("seen")]
    assert sorted(done + theirs) == names
    assert done, "Python has worked"
    assert theirs, "Node has worked"


class TestWhatDashboardsShow:
    async def test_states_and_counts(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send_many([send(id) for id in ("a", "b", "c", "d")])
        await queue.send(send("later", delay=60))
        one, two, three = await queue.receive(["jobs"], limit=3)
        await queue.begin([one, two, three])
        await queue.dead_letter(one, "no ink")
        await queue.ack([two])
        assert await counts(node) == {"waiting": 1, "active": 1, "delayed": 1, "completed": 1, "failed": 1}
        shown = {}
        for state in ("waiting", "active", "delayed", "completed", "failed"):
            [shown[state]] = await node("jobs", queue="jobs", state=state)
        assert {state: job["id"] for state, job in shown.items()} == {
            "waiting": "d", "active": "c", "delayed": "later", "completed": "b", "failed": "a",
        }  # fmt: skip
        assert (shown["failed"]["failedReason"], shown["failed"]["attemptsMade"]) == ("no ink", 1)
        assert (shown["active"]["attemptsMade"], shown["completed"]["attemptsMade"]) == (1, 1)
        await queue.nack(three, delay=60)
        assert await counts(node) == {"waiting": 1, "delayed": 2, "completed": 1, "failed": 1}
        assert (await node("job", queue="jobs", job="c"))["attemptsMade"] == 1

    async def test_a_dead_letter_of_loom_is_retried_from_a_dashboard(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send(send("m"))
        await queue.dead_letter(await receive_one(queue), "no ink")
        await node("retry", queue="jobs", job="m")
        assert (await receive_one(queue)).id == "m"
        assert await queue.dead_letters("jobs") == []

    async def test_discarded_and_expired_messages_are_nowhere(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send_many([send("dead"), send("old", expires_at=1.0)])
        await queue.dead_letter(await receive_one(queue), "why")
        assert await queue.receive(["jobs"]) == []
        assert await queue.discard("jobs", ["dead"]) == [True]
        assert await counts(node) == {}
        assert await node("job", queue="jobs", job="old") is None

    async def test_events_are_heard(self, node: NodeBull, queue: MessageQueue) -> None:
        await node("listen", queue="jobs")
        await queue.send(send("m"))
        delivery = await receive_one(queue)
        await queue.nack(delivery, delay=0.01)
        await queue.ack([await receive_one(queue)])
        expected = ["waiting", "active", "delayed", "waiting", "active", "completed"]

        async def heard() -> bool:
            return [event for event, id in await node("events") if id == "m"] == expected

        await eventually(heard, f"Node hears {expected}")

    async def test_a_queue_that_node_has_opened_is_not_forgotten(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send(send("m", expires_at=time.time() + 100))
        assert await _life(queue, "meta") > 0
        await node("pause", queue="jobs")
        await node("resume", queue="jobs")
        await queue.ack([await receive_one(queue)])
        assert await _life(queue, "meta") == await _life(queue, "id") == -1

    async def test_what_node_has_failed_is_not_forgotten(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send(send("m", expires_at=time.time() + 100))
        await node("work", queue="jobs", fail=1)
        await eventually(lambda: queue.dead_letters("jobs"), "it has failed")
        assert await _life(queue, "m") > 0
        await queue.send(send("n", expires_at=time.time() + 100))
        assert await _life(queue, "m") == await _life(queue, "failed") == -1


class TestWorkersThatDie:
    async def test_node_goes_on_where_loom_died(self, node: NodeBull, queue: MessageQueue, url: str) -> None:
        await queue.send_many([send(id, queue="q") for id in ("done", "left")])
        async with run_child(work_and_report, queue, url, "1.0") as child:
            assert await child.read() == ["begun", "done", "left"]
            assert await child.read() == ["done", "done"]
            await child.kill()
        assert await queue.depth("q") == QueueDepth(leased=1)
        await node("work", queue="q", opts={"stalledInterval": 400})
        [job] = await eventually(lambda: _seen(node, 1), "Node has taken it over")
        assert (job["id"], job["attemptsMade"]) == ("left", 1), "the attempt of the dead worker counts"
        await eventually(lambda: _is(queue, QueueDepth(), "q"), "it is done")

    async def test_node_counts_what_stalls_whoever_held_it(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send(send("m"))
        await receive_one(queue, lease=0.1)
        await node("work", queue="jobs", opts={"stalledInterval": 300, "maxStalledCount": 0})
        [letter] = await eventually(lambda: queue.dead_letters("jobs"), "Node has given it up")
        assert (letter.id, letter.reason) == ("m", "job stalled more than allowable limit")

    async def test_loom_goes_on_where_node_died(
        self, node: NodeBull, queue: MessageQueue, start_node: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> None:
        async with start_node() as other:
            await other("work", queue="jobs", hold=True, opts={"lockDuration": 1500})
            await queue.send(send("m"))
            await eventually(lambda: _seen(other, 1), "Node works on it")
            await other.kill()
        assert await queue.receive(["jobs"]) == [], "Node's lock runs on"
        delivery = await receive_one(queue)
        assert (delivery.id, delivery.attempts) == ("m", 0)
        assert await queue.ack([delivery]) == [True]
        assert await counts(node) == {"completed": 1}

    async def test_each_leaves_alone_what_the_other_holds(self, node: NodeBull, queue: MessageQueue) -> None:
        await queue.send(send("ours"))
        held = await receive_one(queue, lease=2.0)
        await node("work", queue="jobs", hold=True, opts={"stalledInterval": 200, "lockDuration": 600})
        await queue.send(send("theirs"))
        await eventually(lambda: _seen(node, 1), "Node works on the other")
        for _ in range(12):
            await asyncio.sleep(0.25)
            assert await queue.extend([held], 2.0) == [True]
            assert await queue.receive(["jobs"]) == []
        assert await queue.end_leases(["jobs"]) == 1, "Node's lock is not ours to end"
        assert [job["id"] for job in await node("seen")] == ["theirs"]


async def test_hostile_names_are_the_same_on_both_sides(node: NodeBull, queue: MessageQueue) -> None:
    for name in ("loom/shard/3", "{}", "a b", "é", "a*[b]?", "日本"):
        await queue.send(send("wait", queue=name))
        await node("add", queue=name, name="n", data=0, opts={"jobId": "é {}"})
        assert [job["id"] for job in await node("jobs", queue=name, state="waiting")] == ["é {}", "%77ait"]
        assert [one.id for one in await queue.receive([name], limit=9)] == ["wait", "é {}"]
        assert name in await queue.queues()


async def _seen(node: NodeBull, count: int) -> list[dict[str, Any]] | None:
    seen = await node("seen")
    return seen if len(seen) >= count else None


async def _life(queue: MessageQueue, part: str) -> int:
    """Milliseconds until a key of the queue expires; -1 when it stays."""
    assert isinstance(queue, BullMQMessageQueue)
    left: int = await queue._redis.call("PTTL", queue._prefix("jobs") + part)
    return left


async def _is(queue: MessageQueue, depth: QueueDepth, name: str = "jobs") -> bool:
    return await queue.depth(name) == depth
