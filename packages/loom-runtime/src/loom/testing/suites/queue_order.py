"""Queues: order within a group, priority, and fairness among queues."""

from __future__ import annotations

from ...plugins.spec import Durability, Feature
from ...ports.queue import MessageQueue
from .base import Suite, scenario
from .queue_helpers import QueueHarness, drain, ids, message, send

__all__ = ["QueueOrderSuite"]


class QueueOrderSuite(Suite[MessageQueue]):
    """Messages of one group keep their order, whatever happens to them on the way."""

    @scenario(Feature.ORDERED)
    async def test_a_group_arrives_in_the_order_of_sending(self, h: QueueHarness) -> None:
        other = await h.second()
        for n in range(30):
            await (h.adapter, other)[n % 2].send_many([message(f"{g}{n:02}", group=g) for g in "ab"])
        received = await drain(h.adapter)
        for group in "ab":
            assert [one.id for one in received if one.group == group] == [f"{group}{n:02}" for n in range(30)]

    @scenario(Feature.ORDERED)
    async def test_a_leased_message_holds_its_group_and_no_other(self, h: QueueHarness) -> None:
        await send(h.adapter, ["a1", "a2"], group="a")
        [first] = await h.adapter.receive(["q"])
        await send(h.adapter, ["b1"], group="b")
        assert ids(await (await h.second()).receive(["q"], limit=9)) == ["b1"]
        assert await h.adapter.receive(["q"]) == []
        await h.adapter.ack([first])
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["a2"]

    @scenario(Feature.ORDERED)
    async def test_one_call_may_take_several_of_a_group_and_holds_the_later_ones(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2", "3"], group="g")
        batch = await h.adapter.receive(["q"], limit=9)
        assert ids(batch) == ["1", "2", "3"]
        await send(h.adapter, ["4"], group="g")
        for delivery in batch:
            assert await h.adapter.receive(["q"], limit=9) == []
            await h.adapter.ack([delivery])
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["4"]

    @scenario(Feature.ORDERED)
    async def test_acks_out_of_order_free_nothing_early(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2", "3"], group="g")
        one, two, three = await h.adapter.receive(["q"], limit=3)
        await send(h.adapter, ["4"], group="g")
        await h.adapter.ack([three, two])
        assert await h.adapter.receive(["q"], limit=9) == []
        await h.adapter.ack([one])
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["4"]

    @scenario(Feature.ORDERED)
    async def test_a_nack_with_a_delay_holds_the_later_ones(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2"], group="g")
        [first] = await h.adapter.receive(["q"])
        await h.adapter.nack(first, delay=h.unit)
        await send(h.adapter, ["3"], group="g")
        assert await h.adapter.receive(["q"], limit=9) == []
        await h.pass_time(h.unit * 1.2)
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["1", "2", "3"]

    @scenario(Feature.ORDERED)
    async def test_a_nacked_message_waits_for_earlier_ones_and_holds_later_ones(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2", "3", "4"], group="g")
        one, two, three = await h.adapter.receive(["q"], limit=3)
        await h.adapter.nack(two)
        assert await h.adapter.receive(["q"], limit=9) == [], "1 is leased"
        await h.adapter.ack([one])
        [two] = await h.adapter.receive(["q"], limit=9)
        assert two.id == "2", "3 is leased, so 4 must wait"
        await h.adapter.ack([two])
        assert await h.adapter.receive(["q"], limit=9) == []
        await h.adapter.ack([three])
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["4"]

    @scenario(Feature.ORDERED)
    async def test_lost_leases_come_back_in_their_first_order(self, h: QueueHarness) -> None:
        other = await h.second()
        await send(h.adapter, ["1", "2", "3"], group="g")
        batch = await h.adapter.receive(["q"], limit=2, lease=h.unit)
        await send(h.adapter, ["4"], group="g")
        await h.adapter.ack([batch[1]])
        await h.pass_time(h.unit * 1.2)
        await send(h.adapter, ["5"], group="g")
        assert ids(await other.receive(["q"], limit=9)) == ["1", "3", "4", "5"]

    @scenario(Feature.ORDERED)
    async def test_leases_that_end_apart_never_let_a_later_one_pass(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2", "3"], group="g")
        one, _, _ = await h.adapter.receive(["q"], limit=3, lease=h.unit)
        await h.adapter.extend([one], h.unit * 3)
        await h.pass_time(h.unit * 1.2)
        assert await h.adapter.receive(["q"], limit=9) == [], "2 and 3 are free, 1 is leased"
        await h.pass_time(h.unit * 2)
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["1", "2", "3"]

    @scenario(Feature.ORDERED)
    async def test_a_dead_letter_and_an_expired_message_let_the_next_go(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1"], group="g")
        await h.adapter.send(message("2", group="g", expires_at=h.now() + h.unit))
        await send(h.adapter, ["3"], group="g")
        [first] = await h.adapter.receive(["q"], lease=h.unit * 9)
        await h.pass_time(h.unit * 1.2)
        assert await h.adapter.receive(["q"]) == []
        await h.adapter.dead_letter(first, "why")
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["3"]

    @scenario(Feature.ORDERED)
    async def test_a_redriven_message_comes_behind_those_that_wait(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2"], group="g")
        [first] = await h.adapter.receive(["q"])
        await h.adapter.dead_letter(first, "why")
        await h.adapter.redrive("q", ["1"])
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["2", "1"]

    @scenario(Feature.ORDERED, Feature.DELAYED)
    async def test_a_delayed_send_takes_its_place_when_the_delay_ends(self, h: QueueHarness) -> None:
        await h.adapter.send(message("slow", group="g", delay=h.unit))
        await send(h.adapter, ["fast"], group="g")
        assert ids(await drain(h.adapter)) == ["fast"]
        await h.pass_time(h.unit * 1.2)
        await send(h.adapter, ["after"], group="g")
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["slow", "after"]

    @scenario(Feature.ORDERED, Feature.DELAYED)
    async def test_delays_of_a_group_end_in_the_order_of_their_ends(self, h: QueueHarness) -> None:
        delays = {"third": 0.9, "first": 0.3, "second": 0.6}
        await h.adapter.send_many([message(id, group="g", delay=h.unit * delay) for id, delay in delays.items()])
        await h.pass_time(h.unit * 1.2)
        assert ids(await h.adapter.receive(["q"], limit=9)) == ["first", "second", "third"]

    @scenario(Feature.ORDERED, durability=Durability.PROCESS)
    async def test_order_survives_reopening(self, h: QueueHarness) -> None:
        await send(h.adapter, ["1", "2", "3"], group="g")
        await h.adapter.receive(["q"], limit=2, lease=h.unit * 2)
        queue = await h.reopen()
        await send(queue, ["4"], group="g")
        assert await queue.receive(["q"], limit=9) == []
        await h.pass_time(h.unit * 2.2)
        assert ids(await queue.receive(["q"], limit=9)) == ["1", "2", "3", "4"]

    @scenario(Feature.PRIORITY)
    async def test_a_higher_priority_is_received_earlier(self, h: QueueHarness) -> None:
        await h.adapter.send_many([message(f"p{p}", priority=p) for p in (0, 5, -1, 9)])
        assert ids(await h.adapter.receive(["q"])) == ["p9"]
        await h.adapter.send(message("p7", priority=7))
        assert ids(await drain(h.adapter)) == ["p7", "p5", "p0", "p-1"]

    @scenario(Feature.PRIORITY, Feature.ORDERED)
    async def test_priority_is_ignored_within_a_group(self, h: QueueHarness) -> None:
        await h.adapter.send_many([message(f"{n}", group="g", priority=n) for n in range(4)])
        assert ids(await drain(h.adapter)) == ["0", "1", "2", "3"]

    @scenario()
    async def test_a_full_queue_starves_no_other(self, h: QueueHarness) -> None:
        priority = 9 if Feature.PRIORITY in self.features else 0
        await h.adapter.send_many([message(f"b{n}", queue="busy", priority=priority) for n in range(200)])
        for limit in (1, 10):
            for queues in (["busy", "quiet"], ["quiet", "busy"]):
                name = f"{limit}{queues[0]}"
                await h.adapter.send(message(name, queue="quiet"))
                for _ in range(12):
                    batch = await h.adapter.receive(queues, limit=limit)
                    await h.adapter.ack(batch)
                    await h.adapter.send_many(
                        [message(f"{one.id}+", queue="busy", priority=priority) for one in batch if one.id[0] == "b"]
                    )
                    if name in ids(batch):
                        break
                else:
                    raise AssertionError(f"12 receives of {limit} from {queues} never served the quiet queue")

    @scenario(Feature.ORDERED)
    async def test_a_group_that_waits_starves_no_other_group(self, h: QueueHarness) -> None:
        await send(h.adapter, [f"slow{n}" for n in range(300)], group="slow")
        await h.adapter.receive(["q"], lease=h.unit * 99)
        await send(h.adapter, ["quick"], group="quick")
        assert ids(await h.adapter.receive(["q"], limit=5)) == ["quick"]
