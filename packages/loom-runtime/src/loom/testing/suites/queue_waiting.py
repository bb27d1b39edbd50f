"""Queues: receivers that wait."""

from __future__ import annotations

import asyncio
import contextlib

from ...plugins.spec import Feature
from ...ports.queue import Delivery, MessageQueue
from .base import Suite, eventually, scenario
from .queue_helpers import QueueHarness, ids, message, send, until_waiting

__all__ = ["QueueWaitingSuite"]


def _receive(h: QueueHarness, client: MessageQueue, *queues: str) -> asyncio.Task[list[Delivery]]:
    # By a clock of ours no time passes unless a test says so: whoever returns was woken.
    return asyncio.ensure_future(client.receive(queues or ("q",), limit=9, lease=h.unit * 20, wait=h.unit * 50))


class QueueWaitingSuite(Suite[MessageQueue]):
    """A receive with ``wait`` returns as soon as there is something, and not before its time without."""

    @scenario()
    async def test_a_send_wakes_a_receiver(self, h: QueueHarness) -> None:
        other = await h.second()
        for sender in (h.adapter, other):
            task = _receive(h, h.adapter, "x", "q")
            await until_waiting(h)
            await sender.send(message("elsewhere", queue="y"))
            await sender.send(message(f"m{sender is other}"))
            assert ids(await task) == [f"m{sender is other}"]

    @scenario()
    async def test_a_send_between_looking_and_waiting_is_heard(self, h: QueueHarness) -> None:
        other = await h.second()
        for n in range(40):
            task = _receive(h, h.adapter)
            for _ in range(n % 10):
                await asyncio.sleep(0)
            await other.send(message(f"m{n}"))
            [delivery] = await task
            assert delivery.id == f"m{n}"
            await h.adapter.ack([delivery])

    @scenario()
    async def test_a_nack_wakes_a_receiver(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [delivery] = await h.adapter.receive(["q"], lease=h.unit * 99)
        task = _receive(h, await h.second())
        await until_waiting(h)
        await h.adapter.nack(delivery)
        assert ids(await task) == ["m"]

    @scenario(Feature.ORDERED)
    async def test_an_ack_wakes_whoever_waits_for_the_next_of_the_group(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2"], group="g")
        [first] = await h.adapter.receive(["q"], lease=h.unit * 99)
        task = _receive(h, await h.second())
        await until_waiting(h)
        await h.adapter.ack([first])
        assert ids(await task) == ["2"]

    @scenario()
    async def test_a_redrive_wakes_a_receiver(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [delivery] = await h.adapter.receive(["q"])
        await h.adapter.dead_letter(delivery, "why")
        task = _receive(h, h.adapter)
        await until_waiting(h)
        await h.adapter.redrive("q", ["m"])
        assert ids(await task) == ["m"]

    @scenario()
    async def test_the_end_of_a_lease_wakes_a_receiver(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        await h.adapter.receive(["q"], lease=h.unit)
        task = _receive(h, await h.second())
        await until_waiting(h)
        await h.pass_time(h.unit * 1.2)
        assert ids(await task) == ["m"]

    @scenario(Feature.DELAYED)
    async def test_the_end_of_a_delay_wakes_a_receiver(self, h: QueueHarness) -> None:
        task = _receive(h, h.adapter)
        await until_waiting(h)
        await h.adapter.send(message("m", delay=h.unit))
        await asyncio.sleep(0.05)
        assert not task.done()
        await until_waiting(h)
        await h.pass_time(h.unit * 1.2)
        assert ids(await task) == ["m"]

    @scenario()
    async def test_a_wait_that_was_in_vain_ends_empty(self, h: QueueHarness) -> None:
        task = asyncio.ensure_future(h.adapter.receive(["q"], wait=h.unit))
        await until_waiting(h)
        assert not task.done()
        await h.pass_time(h.unit * 1.2)
        assert await task == []

    @scenario()
    async def test_of_many_waiting_receivers_each_message_reaches_one(self, h: QueueHarness) -> None:
        clients = [h.adapter, await h.second()]
        tasks = [_receive(h, clients[n % 2]) for n in range(6)]
        await until_waiting(h, 6)
        await send(h.adapter, ["a", "b", "c"])
        done: set[asyncio.Task[list[Delivery]]] = set()
        received: list[str] = []
        while len(received) < 3:
            done, _ = await asyncio.wait(set(tasks) - done, return_when=asyncio.FIRST_COMPLETED)
            received += [id for task in done for id in ids(await task)]
            tasks = [task for task in tasks if task not in done]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(received) == ["a", "b", "c"]

    @scenario()
    async def test_a_cancelled_receiver_takes_nothing(self, h: QueueHarness) -> None:
        task = _receive(h, h.adapter)
        await until_waiting(h)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await send(h.adapter, ["m"])
        assert ids(await h.adapter.receive(["q"])) == ["m"]

    @scenario(Feature.DIRECT)
    async def test_what_is_sent_directly_reaches_whoever_listens(self, h: QueueHarness) -> None:
        other = await h.second()
        sender, listener = h.adapter.direct(), other.direct()
        assert sender is not None
        assert listener is not None
        heard: list[bytes] = []
        also: list[bytes] = []
        await sender.send_many([("a/ b", b"before anybody listens")])
        await listener.listen("a/ b", heard.append, lambda: None)
        await sender.listen("a/ b", also.append, lambda: None)
        await listener.listen("other", heard.append, lambda: None)
        bodies = [b"", b"\x00\xff", *(str(n).encode() for n in range(200)), b"x" * 100_000]
        await sender.send_many([("nobody", b"lost"), *(("a/ b", body) for body in bodies)])
        await sender.send_many([("other", b"last")])
        await eventually(lambda: heard and heard[-1] == b"last", "the last message is heard")
        assert heard == [*bodies, b"last"]
        await eventually(lambda: also == bodies, "every listener hears them")

    @scenario(Feature.DIRECT)
    async def test_what_is_sent_directly_is_no_message_of_a_queue(self, h: QueueHarness) -> None:
        direct = h.adapter.direct()
        assert direct is not None
        await direct.send_many([("q", b"body")])
        assert await h.adapter.receive(["q"]) == []
        assert await h.adapter.queues() == []
