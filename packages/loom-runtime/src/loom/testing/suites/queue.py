"""What every MessageQueue must do: send, receive, finish, give up; names, sizes and counts."""

from __future__ import annotations

import pytest

from ...errors import InvalidKeyError, TooLargeError
from ...plugins.spec import Feature
from ...ports.queue import MessageQueue, QueueDepth
from .base import MOST_TESTED, Suite, limit, scenario
from .keys import BAD_KEYS, HOSTILE_KEYS
from .queue_crash import QueueCrashSuite
from .queue_dead import QueueDeadLetterSuite
from .queue_helpers import QueueHarness, drain, ids, message, send
from .queue_leases import QueueLeaseSuite
from .queue_order import QueueOrderSuite
from .queue_waiting import QueueWaitingSuite

__all__ = ["MessageQueueSuite"]


class _Delivery(Suite[MessageQueue]):
    @scenario()
    async def test_an_unused_queue_is_empty(self, h: QueueHarness) -> None:
        assert await h.adapter.receive(["q"]) == []
        assert await h.adapter.receive([]) == []
        assert await h.adapter.depth("q") == QueueDepth()
        assert await h.adapter.queues() == []
        assert await h.adapter.dead_letters("q") == []
        assert await h.adapter.send_many([]) == []
        assert await h.adapter.ack([]) == []
        assert await h.adapter.begin([]) == []
        assert await h.adapter.extend([], 1.0) == []

    @scenario()
    async def test_a_message_arrives_as_it_was_sent(self, h: QueueHarness) -> None:
        before = h.now()
        assert await h.adapter.send(message("m", group="g", body=b"\x00\xff", expires_at=before + 900.0))
        [delivery] = await h.adapter.receive(["q"], lease=h.unit)
        assert (delivery.queue, delivery.id, delivery.body, delivery.group) == ("q", "m", b"\x00\xff", "g")
        assert delivery.attempts == 0
        assert delivery.expires_at == pytest.approx(before + 900.0, abs=0.01)
        assert before - 1 <= delivery.enqueued_at <= h.now() + 1
        assert before < delivery.lease_until <= h.now() + h.unit + 1
        assert await h.adapter.ack([delivery]) == [True]
        assert await h.adapter.receive(["q"]) == []

    @scenario()
    async def test_bodies_of_any_size_come_back(self, h: QueueHarness) -> None:
        bodies = {"empty": b"", "all": bytes(range(256)), "large": b"\xfe" * 1_048_576}
        await h.adapter.send_many([message(id, body=body) for id, body in bodies.items()])
        assert {delivery.id: delivery.body for delivery in await drain(h.adapter)} == bodies

    @scenario()
    async def test_a_batch_with_a_body_that_is_too_large_is_refused_whole(self, h: QueueHarness) -> None:
        size = limit(h.adapter)
        for large in (bytes(size + 1), bytes(size + 100)):
            with pytest.raises(TooLargeError):
                await h.adapter.send_many([message("a"), message("large", body=large), message("b", queue="other")])
        assert await h.adapter.queues() == []
        assert await h.adapter.send_many([message("a"), message("large")]) == [True, True], "no id was taken"
        if size <= MOST_TESTED:
            body = b"\xff" * size
            await h.adapter.send(message("full", queue="full", body=body))
            [delivery] = await drain(h.adapter, "full")
            # Not in the assert: a difference of such values would take minutes to print.
            same = delivery.body == body
            assert same

    @scenario()
    async def test_a_receive_gives_up_to_its_limit_from_its_queues_only(self, h: QueueHarness) -> None:
        await h.adapter.send_many([message(f"{queue}{n}", queue=queue) for queue in "abc" for n in range(3)])
        first = await h.adapter.receive(["a", "b"], limit=4)
        rest = await h.adapter.receive(["a", "b"], limit=4)
        assert (len(first), len(rest)) == (4, 2)
        assert sorted(ids(first + rest)) == ["a0", "a1", "a2", "b0", "b1", "b2"]
        assert len(await h.adapter.receive(["c", "c"], limit=9)) == 3

    @scenario()
    async def test_hundreds_of_queues_in_one_receive(self, h: QueueHarness) -> None:
        names = [f"shard/{n}" for n in range(300)]
        assert await h.adapter.receive(names, limit=10) == []
        await h.adapter.send_many([message("m", queue=names[n]) for n in (0, 150, 299)])
        found = await h.adapter.receive(names, limit=10)
        assert sorted(delivery.queue for delivery in found) == ["shard/0", "shard/150", "shard/299"]

    @scenario()
    async def test_thousands_of_messages_all_arrive_once(self, h: QueueHarness) -> None:
        sent = [message(f"m{n}", group=f"g{n % 7}") for n in range(2000)]
        assert await h.adapter.send_many(sent) == [True] * 2000
        assert sorted(ids(await drain(h.adapter))) == sorted(one.id for one in sent)

    @scenario()
    async def test_depth_counts_by_what_a_message_waits_for(self, h: QueueHarness) -> None:
        await send(h.adapter, ["a", "b", "c", "d"])
        one, two, three = await h.adapter.receive(["q"], limit=3, lease=h.unit)
        assert await h.adapter.depth("q") == QueueDepth(ready=1, leased=3)
        await h.adapter.nack(one, delay=h.unit)
        await h.adapter.dead_letter(two, "why")
        assert await h.adapter.depth("q") == QueueDepth(ready=1, delayed=1, leased=1, dead=1)
        await h.adapter.ack([three])
        assert await h.adapter.depth("q") == QueueDepth(ready=1, delayed=1, dead=1)
        await h.pass_time(h.unit * 1.2)
        assert await h.adapter.depth("q") == QueueDepth(ready=2, dead=1)

    @scenario()
    async def test_queues_are_those_that_hold_something(self, h: QueueHarness) -> None:
        await h.adapter.send_many([message("m", queue=name) for name in ("z", "a", "é")])
        assert await h.adapter.queues() == ["a", "z", "é"]
        [delivery] = await h.adapter.receive(["a"])
        assert await h.adapter.queues() == ["a", "z", "é"]
        await h.adapter.ack([delivery])
        [dead] = await h.adapter.receive(["z"])
        await h.adapter.dead_letter(dead, "why")
        assert await h.adapter.queues() == ["z", "é"]
        await h.adapter.discard("z", ["m"])
        assert await h.adapter.queues() == ["é"]


class _Dedupe(Suite[MessageQueue]):
    @scenario()
    async def test_an_id_in_the_queue_is_a_duplicate(self, h: QueueHarness) -> None:
        outcomes = await h.adapter.send_many([message("m", body=b"first"), message("m", body=b"second"), message("n")])
        assert outcomes == [True, False, True]
        assert not await h.adapter.send(message("m"))
        assert await h.adapter.send(message("m", queue="other"))
        received = await h.adapter.receive(["q"], limit=9)
        assert sorted((delivery.id, delivery.body) for delivery in received) == [("m", b"first"), ("n", b"body")]
        assert not await h.adapter.send(message("m")), "a leased message is in the queue"

    @scenario()
    async def test_a_finished_id_is_a_duplicate_for_the_window(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        await drain(h.adapter)
        assert not await h.adapter.send(message("m"))
        assert not await (await h.second()).send(message("m"))
        if h.clock is not None:
            await h.pass_time(h.adapter.dedupe_window - 1.0)
            assert not await h.adapter.send(message("m"))
            await h.pass_time(2.0)
            assert await h.adapter.send(message("m"))

    @scenario()
    async def test_a_dead_letters_id_is_a_duplicate(self, h: QueueHarness) -> None:
        await send(h.adapter, ["m"])
        [delivery] = await h.adapter.receive(["q"])
        await h.adapter.dead_letter(delivery, "why")
        if h.clock is not None:
            await h.pass_time(h.adapter.dedupe_window + 1.0)
        assert not await h.adapter.send(message("m"))

    @scenario()
    async def test_an_expired_message_is_never_delivered(self, h: QueueHarness) -> None:
        await h.adapter.send_many([message("short", expires_at=h.now() + h.unit), message("long"), message("longer")])
        await h.adapter.send(message("over", expires_at=h.now() - 1.0))
        await h.pass_time(h.unit * 1.2)
        assert sorted(ids(await drain(h.adapter))) == ["long", "longer"]

    @scenario()
    async def test_a_message_that_expires_under_its_lease_is_not_redelivered(self, h: QueueHarness) -> None:
        await h.adapter.send(message("m", expires_at=h.now() + h.unit))
        [delivery] = await h.adapter.receive(["q"], lease=h.unit * 4)
        await h.pass_time(h.unit * 1.2)
        assert await h.adapter.begin([delivery]) == [True], "the lease runs on"
        assert await h.adapter.nack(delivery)
        assert await h.adapter.receive(["q"]) == []

    @scenario(Feature.DELAYED)
    async def test_a_delayed_message_comes_when_its_delay_is_over(self, h: QueueHarness) -> None:
        await h.adapter.send_many([message("later", delay=h.unit), message("now")])
        assert await h.adapter.depth("q") == QueueDepth(ready=1, delayed=1)
        assert ids(await drain(h.adapter)) == ["now"]
        assert not await h.adapter.send(message("later")), "a delayed message is in the queue"
        await h.pass_time(h.unit * 1.2)
        assert ids(await drain(h.adapter)) == ["later"]


class _Names(Suite[MessageQueue]):
    @scenario()
    async def test_hostile_queue_names_do_not_collide(self, h: QueueHarness) -> None:
        sent = [message("m", queue=name, body=name.encode()) for name in HOSTILE_KEYS]
        assert await h.adapter.send_many(sent) == [True] * len(sent)
        assert await h.adapter.queues() == sorted(HOSTILE_KEYS)
        for name in HOSTILE_KEYS:
            [delivery] = await h.adapter.receive([name], limit=9)
            assert (delivery.queue, delivery.body) == (name, name.encode())
            assert await h.adapter.ack([delivery]) == [True]

    @scenario()
    async def test_hostile_ids_and_groups_do_not_collide(self, h: QueueHarness) -> None:
        sent = [message(name, group=name) for name in HOSTILE_KEYS]
        assert await h.adapter.send_many(sent) == [True] * len(sent)
        received = await h.adapter.receive(["q"], limit=1000)
        assert sorted((one.id, one.group) for one in received) == sorted((name, name) for name in HOSTILE_KEYS)
        for delivery in received:
            assert await h.adapter.dead_letter(delivery, delivery.id)
        assert [letter.id for letter in await h.adapter.dead_letters("q", limit=1000)] == sorted(HOSTILE_KEYS)
        assert await h.adapter.redrive("q", HOSTILE_KEYS) == [True] * len(HOSTILE_KEYS)

    @scenario()
    async def test_bad_names_are_refused(self, h: QueueHarness) -> None:
        for bad in BAD_KEYS:
            for call in (
                h.adapter.send_many([message("good"), message("m", queue=bad)]),
                h.adapter.send_many([message("good"), message(bad)]),
                h.adapter.receive(["q", bad]),
                h.adapter.depth(bad),
                h.adapter.dead_letters(bad),
                h.adapter.redrive(bad, ["m"]),
                h.adapter.discard(bad, ["m"]),
            ):
                with pytest.raises(InvalidKeyError):
                    await call
        assert await h.adapter.queues() == []


class MessageQueueSuite(
    _Delivery,
    _Dedupe,
    _Names,
    QueueLeaseSuite,
    QueueOrderSuite,
    QueueWaitingSuite,
    QueueDeadLetterSuite,
    QueueCrashSuite,
):
    """Everything that a MessageQueue must do. Override ``harness``; see ``loom.testing.suites.base``."""
