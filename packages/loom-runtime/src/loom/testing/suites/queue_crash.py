"""Queues across the end of a client, of a process, and between processes."""

from __future__ import annotations

from ...plugins.spec import Durability, Reach
from ...ports.queue import MessageQueue
from .base import Suite, scenario
from .child import report, run_child
from .queue_helpers import QueueHarness, drain, ids, message, send

__all__ = ["QueueCrashSuite"]


async def send_and_report(queue: MessageQueue) -> None:
    """Child: send for ever, and report each batch once it is acknowledged."""
    n = 0
    while True:
        names = [f"m{n + i:06}" for i in range(5)]
        await queue.send_many([message(name, group=f"g{i}") for i, name in enumerate(names)])
        report(names)
        n += 5


async def work_and_report(queue: MessageQueue, lease: str) -> None:
    """Child: receive and begin two at a time, finish the first of them, report what is durable; then for ever."""
    while True:
        batch = await queue.receive(["q"], limit=2, lease=float(lease), wait=60.0)
        await queue.begin(batch)
        report(["begun", *ids(batch)])
        await queue.ack(batch[:1])
        report(["done", *ids(batch[:1])])


async def consume_and_report(queue: MessageQueue) -> None:
    """Child: wait for messages, and report each one received, until one that says "stop"."""
    report("ready")
    while True:
        batch = await queue.receive(["q"], limit=1, lease=600.0, wait=60.0)
        report(ids(batch))
        await queue.ack(batch)
        if any(delivery.body == b"stop" for delivery in batch):
            return


class QueueCrashSuite(Suite[MessageQueue]):
    """What was reported as sent is delivered until it is finished, and what is finished is not delivered."""

    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: QueueHarness) -> None:
        await send(h.adapter, ["a", "b", "c", "d"])
        batch = {one.id: one for one in await h.adapter.receive(["q"], limit=3, lease=h.unit * 20)}
        first, second, third = batch.values()
        await h.adapter.begin([first, second])
        await h.adapter.ack([first])
        await h.adapter.nack(second)
        queue = await h.reopen()
        assert (await queue.depth("q")).leased == 1
        assert await queue.send_many([message(id) for id in "abcd"]) == [False] * 4
        assert await queue.ack([third]) == [True], "a lease outlives the client that took it"
        left = {one.id: one.attempts for one in await drain(queue)}
        assert left == {id: int(id == second.id) for id in "abcd" if id not in (first.id, third.id)}

    @scenario(durability=Durability.PROCESS, url=True)
    async def test_what_a_killed_sender_had_sent_is_there(self, h: QueueHarness) -> None:
        assert h.url is not None
        async with run_child(send_and_report, await h.leave(), h.url) as child:
            while len(child.lines) < 60 and await child.read() is not None:
                pass
            reported = [name for batch in await child.kill() for name in batch]
        assert len(reported) >= 300
        found = ids(await drain(await h.reopen()))
        assert set(reported) <= set(found)
        assert len(found) == len(set(found))
        assert len(found) % 5 == 0, "a batch is enqueued whole or not at all"

    @scenario(durability=Durability.PROCESS, url=True)
    async def test_what_a_killed_worker_had_not_finished_comes_again(self, h: QueueHarness) -> None:
        assert h.url is not None
        names = [f"m{n:03}" for n in range(400)]
        await send(h.adapter, names)
        lease = 3600.0 if h.clock is not None else h.unit * 4
        async with run_child(work_and_report, await h.leave(), h.url, str(lease)) as child:
            while len(child.lines) < 60 and await child.read() is not None:
                pass
            reports = await child.kill()
        begun = {name for kind, *some in reports if kind == "begun" for name in some}
        done = {name for kind, *some in reports if kind == "done" for name in some}
        await h.pass_time(lease + 60.0 if h.clock is not None else lease * 1.2)
        attempts = {one.id: one.attempts for one in await drain(await h.reopen())}
        assert not done & set(attempts), "a finished message was delivered again"
        # The last call before the kill may have been carried out and not reported.
        assert len(set(names) - done - set(attempts)) <= 1
        assert all(attempts[name] == 1 for name in begun & set(attempts))

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_share_the_messages_and_are_woken(self, h: QueueHarness) -> None:
        assert h.url is not None
        async with (
            run_child(consume_and_report, h.adapter, h.url) as one,
            run_child(consume_and_report, h.adapter, h.url) as two,
        ):
            assert (await one.read(), await two.read()) == ("ready", "ready")
            names = [f"m{n}" for n in range(60)]
            for start in range(0, 60, 4):
                await send(h.adapter, names[start : start + 4])
            await h.adapter.send_many([message(id, body=b"stop") for id in ("stop1", "stop2")])
            lines = [*(await one.rest())[1:], *(await two.rest())[1:]]
        assert sorted(name for batch in lines for name in batch) == sorted([*names, "stop1", "stop2"])
