"""Queues: leases that end, attempts, and consumers that compete."""

from __future__ import annotations

import asyncio
import contextlib

from ...ports.queue import Delivery, MessageQueue
from .base import Suite, scenario
from .queue_helpers import QueueHarness, ids, message, send

__all__ = ["QueueLeaseSuite"]


class QueueLeaseSuite(Suite[MessageQueue]):
    """One lease at a time, and none for ever."""

    @scenario()
    async def test_a_leased_message_is_delivered_to_nobody_else(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        assert ids(await h.adapter.receive(["q"])) == ["m"]
        assert await h.adapter.receive(["q"]) == []
        assert await (await h.second()).receive(["q"]) == []

    @scenario()
    async def test_a_lease_that_ends_makes_the_message_receivable_by_anyone(self, h: QueueHarness) -> None:
        other = await h.second()
        await send(h.adapter, ["m"])
        [lost] = await h.adapter.receive(["q"], lease=h.unit)
        await h.pass_time(h.unit * 1.2)
        [again] = await other.receive(["q"], lease=h.unit * 20)
        assert (again.id, again.attempts) == ("m", 0), "received and never begun: no charge"
        assert again.receipt != lost.receipt

    @scenario()
    async def test_every_delivery_has_a_receipt_of_its_own(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2", "3"], group="g")
        await send(h.adapter, ["4", "5"])
        assert await h.adapter.send_many([message(name, queue="r") for name in ("1", "2")]) == [True, True]
        received = await h.adapter.receive(["q", "r"], limit=10)
        assert len({delivery.receipt for delivery in received}) == len(received) >= 3

    @scenario()
    async def test_whoever_lost_the_lease_can_do_nothing(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [lost] = await h.adapter.receive(["q"], lease=h.unit)
        await h.pass_time(h.unit * 1.2)
        held: list[Delivery] = []
        redelivered = held
        for _ in ("before the redelivery", "after it"):
            redelivered = held
            assert await h.adapter.begin([lost]) == [False]
            assert await h.adapter.extend([lost], h.unit) == [False]
            assert await h.adapter.ack([lost]) == [False]
            assert not await h.adapter.nack(lost)
            assert not await h.adapter.dead_letter(lost, "why")
            held = await h.adapter.receive(["q"], lease=h.unit * 20)
        assert (ids(redelivered), held) == (["m"], []), "the second holder's lease was touched"
        assert (await h.adapter.depth("q")).leased == 1

    @scenario()
    async def test_whoever_takes_over_a_queue_need_not_wait_for_leases(self, h: QueueHarness) -> None:
        other = await h.second()
        await send(h.adapter, ["1", "2", "3"], group="g")
        lost = await h.adapter.receive(["q"], limit=2)
        assert await h.adapter.begin(lost[:1]) == [True]
        ended = await other.end_leases(["q", "nothing here"])
        if ended == 0:  # allowed: then they end by themselves
            return
        assert ended == 2
        assert await h.adapter.ack(lost) == [False, False], "the receipts are void"
        again = await other.receive(["q"], limit=3)
        assert ids(again) == ["1", "2", "3"], "in their old order, before newer ones"
        assert [delivery.attempts for delivery in again] == [1, 0, 0]

    @scenario()
    async def test_a_delivery_can_be_finished_once(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [delivery] = await h.adapter.receive(["q"])
        assert await h.adapter.ack([delivery, delivery]) == [True, False]
        assert await h.adapter.begin([delivery]) == [False]
        assert not await h.adapter.nack(delivery)

    @scenario()
    async def test_outcomes_are_per_delivery(self, h: QueueHarness) -> None:
        await send(h.adapter, ["a", "b", "c"])
        deliveries = await h.adapter.receive(["q"], limit=3)
        await h.adapter.ack([deliveries[1]])
        assert await h.adapter.begin(deliveries) == [True, False, True]
        assert await h.adapter.extend(deliveries, h.unit) == [True, False, True]
        assert await h.adapter.ack(deliveries) == [True, False, True]

    @scenario()
    async def test_extend_moves_the_end_of_the_lease(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [delivery] = await h.adapter.receive(["q"], lease=h.unit)
        for _ in range(3):
            await h.pass_time(h.unit * 0.5)
            assert await h.adapter.extend([delivery], h.unit) == [True]
        assert await h.adapter.receive(["q"]) == []
        assert await h.adapter.extend([delivery], h.unit * 0.2) == [True]
        await h.pass_time(h.unit * 0.4)
        assert await h.adapter.ack([delivery]) == [False]
        assert ids(await h.adapter.receive(["q"])) == ["m"]

    @scenario()
    async def test_only_begin_charges_an_attempt(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        charged = 0
        for begun in (False, True, False, True, True):
            [delivery] = await h.adapter.receive(["q"], lease=h.unit)
            assert delivery.attempts == charged
            if begun:
                assert await h.adapter.begin([delivery]) == [True]
                charged += 1
            if charged % 2:
                assert await h.adapter.nack(delivery)
            else:
                await h.pass_time(h.unit * 1.2)
        [last] = await h.adapter.receive(["q"])
        assert last.attempts == 3

    @scenario()
    async def test_a_nack_gives_back_at_once_or_after_its_delay(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [delivery] = await h.adapter.receive(["q"])
        assert await h.adapter.nack(delivery)
        [delivery] = await h.adapter.receive(["q"])
        assert await h.adapter.nack(delivery, delay=h.unit)
        assert await h.adapter.receive(["q"]) == []
        await h.pass_time(h.unit * 1.2)
        assert ids(await h.adapter.receive(["q"])) == ["m"]

    @scenario()
    async def test_competing_consumers_get_each_message_once(self, h: QueueHarness) -> None:
        clients = [h.adapter, await h.second()]
        names = [f"m{n}" for n in range(300)]
        await h.adapter.send_many([message(name, group=f"g{n % 11}") for n, name in enumerate(names)])
        received: list[str] = []

        async def consume(client: MessageQueue) -> None:
            while len(received) < len(names):
                batch = await client.receive(["q"], limit=7, lease=600.0)
                received.extend(ids(batch))
                await asyncio.sleep(0)
                assert await client.ack(batch) == [True] * len(batch)

        await asyncio.gather(*(consume(clients[n % 2]) for n in range(4)))
        assert sorted(received) == sorted(names)

    @scenario()
    async def test_a_cancelled_call_is_whole_or_absent(self, h: QueueHarness) -> None:
        for n in range(40):
            queue = f"q{n}"
            calls = (
                h.adapter.send_many([message("a", queue=queue), message("b", queue=queue)]),
                h.adapter.receive([queue], limit=2, lease=h.unit),
            )
            for call in calls:
                task = asyncio.ensure_future(call)
                for _ in range(n % 7):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await h.adapter.send_many([message("a", queue=queue), message("b", queue=queue)])
        await h.pass_time(h.unit * 1.2)
        for n in range(40):
            assert sorted(ids(await h.adapter.receive([f"q{n}"], limit=9))) == ["a", "b"]
