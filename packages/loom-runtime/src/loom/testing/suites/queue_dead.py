"""Queues: dead letters."""

from __future__ import annotations

from ...plugins.spec import Durability
from ...ports.queue import DeadLetter, MessageQueue, QueueDepth
from .base import Suite, scenario
from .queue_helpers import QueueHarness, ids, message, send

__all__ = ["QueueDeadLetterSuite"]


async def _bury(h: QueueHarness, *names: str) -> None:
    await send(h.adapter, names, group="g")
    for delivery in await h.adapter.receive(["q"], limit=len(names)):
        await h.adapter.begin([delivery])
        assert await h.adapter.dead_letter(delivery, f"reason of {delivery.id}")


class QueueDeadLetterSuite(Suite[MessageQueue]):
    """What was given up is kept, shown, and can be tried again."""

    @scenario()
    async def test_a_dead_letter_is_kept_with_its_reason(self, h: QueueHarness) -> None:
        before = h.now()
        await _bury(h, "m")
        [letter] = await h.adapter.dead_letters("q")
        assert before - 1 <= letter.dead_at <= h.now() + 1
        assert letter == DeadLetter(
            queue="q", id="m", body=b"body", group="g", attempts=1, reason="reason of m", dead_at=letter.dead_at
        )
        assert await h.adapter.receive(["q"]) == []
        await h.pass_time(h.unit * 3)
        assert await h.adapter.receive(["q"]) == []
        assert await h.adapter.depth("q") == QueueDepth(dead=1)

    @scenario()
    async def test_dead_letters_are_listed_in_the_order_of_their_ids(self, h: QueueHarness) -> None:
        names = ["b", "a", "é", "c", "B", "a\x00"]
        await _bury(h, *names)
        assert [letter.id for letter in await h.adapter.dead_letters("q")] == sorted(names)
        listed: list[str] = []
        while page := await h.adapter.dead_letters("q", after=listed[-1] if listed else "", limit=2):
            listed += [letter.id for letter in page]
        assert listed == sorted(names)
        assert await h.adapter.dead_letters("other") == []

    @scenario()
    async def test_a_redriven_message_is_new(self, h: QueueHarness) -> None:
        await h.adapter.send(message("m", group="g", body=b"kept", expires_at=h.now() + h.unit))
        [delivery] = await h.adapter.receive(["q"])
        await h.adapter.begin([delivery])
        await h.adapter.dead_letter(delivery, "why")
        await h.pass_time(h.unit * 1.2)
        assert await h.adapter.redrive("q", ["m", "never", "m"]) == [True, False, False]
        assert await h.adapter.dead_letters("q") == []
        [again] = await h.adapter.receive(["q"])
        assert (again.id, again.body, again.group, again.attempts, again.expires_at) == ("m", b"kept", "g", 0, None)
        assert await h.adapter.ack([delivery]) == [False], "an old receipt is not one of the new message"

    @scenario()
    async def test_a_discarded_letter_is_gone(self, h: QueueHarness) -> None:
        await _bury(h, "m", "n")
        assert await h.adapter.discard("q", ["m", "never"]) == [True, False]
        assert [letter.id for letter in await h.adapter.dead_letters("q")] == ["n"]
        assert await h.adapter.redrive("q", ["m"]) == [False]
        assert await h.adapter.redrive("other", ["n"]) == [False]

    @scenario(durability=Durability.PROCESS)
    async def test_dead_letters_survive_reopening(self, h: QueueHarness) -> None:
        await _bury(h, "m", "n")
        queue = await h.reopen()
        assert [letter.reason for letter in await queue.dead_letters("q")] == ["reason of m", "reason of n"]
        assert await queue.redrive("q", ["n"]) == [True]
        assert ids(await queue.receive(["q"])) == ["n"]
