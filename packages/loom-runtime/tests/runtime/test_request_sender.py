"""Requests through the queue: together, in order, and none suffers for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.clock import SystemClock
from loom.errors import OutcomeUnknownError, StoreUnavailableError, TooLargeError
from loom.ports import OutgoingMessage
from loom.runtime.background import Background
from loom.runtime.messages import Kind, Message, Reply
from loom.runtime.request_sender import RequestSender
from loom.testing.faults import Fault, FaultPlan, Faulty


class Counting(InMemoryMessageQueue):
    """Notes what is sent together, and takes no body of more than ten bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        self.batches.append([message.id for message in messages])
        if any(len(message.body) > 10 for message in messages):
            raise TooLargeError("more than ten bytes")
        await asyncio.sleep(0)
        return await super().send_many(messages)


def _send(sender: RequestSender, id: str, reply: asyncio.Future[Reply], body: bytes = b"") -> None:
    message = Message(id=id, kind=Kind.CALL, stream="actor/A/a")
    sender.send(message, OutgoingMessage(queue="q", id=id, body=body, group="g"), reply)


def _future() -> asyncio.Future[Reply]:
    return asyncio.get_running_loop().create_future()


async def _received(queue: InMemoryMessageQueue, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        deliveries = await queue.receive(["q"], limit=100, wait=30)
        found += [delivery.id for delivery in deliveries]
        await queue.ack(deliveries)
    return found


async def test_requests_of_one_moment_go_together_and_later_ones_behind_them() -> None:
    queue = Counting()
    sender = RequestSender(queue, SystemClock(), Background())
    for n in range(5):
        _send(sender, f"a{n}", _future())
    await asyncio.sleep(0)
    for n in range(3):
        _send(sender, f"b{n}", _future())
    while len(queue.batches) < 2:
        await asyncio.sleep(0)
    assert queue.batches == [[f"a{n}" for n in range(5)], [f"b{n}" for n in range(3)]]
    assert await _received(queue, 8) == [*queue.batches[0], *queue.batches[1]]


async def test_one_that_is_too_large_fails_alone() -> None:
    queue = Counting()
    sender = RequestSender(queue, SystemClock(), Background())
    replies = [_future() for _ in range(3)]
    for n, reply in enumerate(replies):
        _send(sender, str(n), reply, b"x" * (11 if n == 1 else 1))
    with pytest.raises(TooLargeError):
        await replies[1]
    assert await _received(queue, 2) == ["0", "2"]
    assert not replies[0].done()


async def test_a_caller_that_has_gone_is_not_tried_again() -> None:
    inner = Counting()
    queue = Faulty(inner, FaultPlan(1).at("send_many", 1, Fault.REFUSED))
    sender = RequestSender(queue, SystemClock(), Background())
    gone, stays = _future(), _future()
    _send(sender, "gone", gone)
    _send(sender, "stays", stays)
    await asyncio.sleep(0)
    gone.cancel()
    while not inner.batches:
        await asyncio.sleep(0.001)
    assert inner.batches == [["stays"]]


@pytest.mark.parametrize(
    ("fault", "error"), [(Fault.REFUSED, StoreUnavailableError), (Fault.LOST_ACK, OutcomeUnknownError)]
)
async def test_patience_ends_with_what_is_known(
    fault: Fault, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loom.runtime.request_sender._PATIENCE", 0.0)
    queue = Faulty(Counting(), FaultPlan(1).at("send_many", 1, fault))
    sender = RequestSender(queue, SystemClock(), Background())
    reply = _future()
    _send(sender, "one", reply)
    with pytest.raises(error):
        await reply
