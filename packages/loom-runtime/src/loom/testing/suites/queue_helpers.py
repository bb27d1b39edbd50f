"""Short words for the suites of queues."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ...ports.queue import Delivery, MessageQueue, OutgoingMessage
from .base import Harness, eventually

__all__ = ["QueueHarness", "drain", "ids", "message", "send", "until_waiting"]

QueueHarness = Harness[MessageQueue]


def message(
    id: str,
    *,
    queue: str = "q",
    group: str = "",
    body: bytes = b"body",
    priority: int = 0,
    delay: float = 0.0,
    expires_at: float | None = None,
) -> OutgoingMessage:
    """A message with defaults for what a test does not care about."""
    return OutgoingMessage(
        queue=queue, id=id, body=body, group=group, priority=priority, delay=delay, expires_at=expires_at
    )


async def send(queue: MessageQueue, names: Iterable[str], *, group: str = "") -> None:
    """Send messages of one group by their ids, all of them new."""
    messages = [message(name, group=group) for name in names]
    assert await queue.send_many(messages) == [True] * len(messages)


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """The ids of ``deliveries``, in their order."""
    return [delivery.id for delivery in deliveries]


async def drain(queue: MessageQueue, name: str = "q") -> list[Delivery]:
    """Receive and acknowledge until nothing is ready; everything received, in order."""
    received: list[Delivery] = []
    while batch := await queue.receive([name], limit=100, lease=600.0):
        assert await queue.ack(batch) == [True] * len(batch)
        received += batch
    return received


async def until_waiting(h: QueueHarness, tasks: int = 1) -> None:
    """Return when so many tasks wait inside the adapter, as far as the clock can tell."""
    if (clock := h.clock) is None:
        await asyncio.sleep(h.unit * 0.2)
    else:
        await eventually(lambda: clock.sleeping >= tasks, f"{tasks} receivers wait")
