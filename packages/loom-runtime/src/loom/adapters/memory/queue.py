"""A message queue in the memory of this process."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from ...clock import Clock, SystemClock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.port import check_key
from ...ports.queue import DeadLetter, Delivery, DirectChannel, MessageQueue, OutgoingMessage, QueueDepth
from ..waiting import wait_for_either
from .ephemeral import warn_if_production
from .lanes import LaneQueue, Message

__all__ = ["InMemoryMessageQueue"]


class _World:
    """The data, apart from the adapter: several adapters may show one world."""

    def __init__(self) -> None:
        self.queues: dict[str, LaneQueue] = {}
        self.waiters: set[asyncio.Future[None]] = set()
        self.listeners: dict[str, list[Callable[[bytes], None]]] = {}

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()


class _DirectChannel(DirectChannel):
    """Within the process: every client of the world hears the others."""

    def __init__(self, world: _World) -> None:
        self._world = world
        self._heard: list[tuple[str, Callable[[bytes], None]]] = []

    async def listen(self, address: str, hear: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        self._heard.append((address, hear))
        self._world.listeners.setdefault(address, []).append(hear)

    async def send_many(self, messages: Sequence[tuple[str, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        for address, body in messages:
            for hear in self._world.listeners.get(address, ()):
                loop.call_soon(hear, body)

    def close(self) -> None:
        for address, hear in self._heard:
            self._world.listeners[address].remove(hear)
            if not self._world.listeners[address]:
                del self._world.listeners[address]
        self._heard.clear()


class InMemoryMessageQueue(MessageQueue):
    """A MessageQueue that lives as long as the process, ordered within a group."""

    def __init__(self, *, clock: Clock | None = None, dedupe_window: float = 300.0) -> None:
        warn_if_production(type(self).__name__)
        self.dedupe_window = dedupe_window
        self._clock = clock or SystemClock()
        self._world = _World()
        self._turns = 0
        self._direct: _DirectChannel | None = None

    @classmethod
    def sharing(cls, other: InMemoryMessageQueue) -> Self:
        """Another client of the data of ``other``."""
        queue = cls(clock=other._clock, dedupe_window=other.dedupe_window)
        queue._world = other._world
        return queue

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data.

        ``?dedupe_window=SECONDS`` (default 300).
        """
        queue = cls(clock=context.clock, dedupe_window=float(url.query.get("dedupe_window", "300")))
        queue._world = context.shared(f"memory:queue:{url.host}{url.path}", _World)
        return queue

    def direct(self) -> DirectChannel:
        if self._direct is None:
            self._direct = _DirectChannel(self._world)
        return self._direct

    async def close(self) -> None:
        if self._direct is not None:
            self._direct.close()

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        for message in messages:
            check_key("queue", message.queue)
            check_key("message id", message.id)
        now = self._clock.now()
        accepted = [self._queue(message.queue).send(message, now) for message in messages]
        self._world.wake()
        return accepted

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        for name in queues:
            check_key("queue", name)
        names = list(dict.fromkeys(queues))
        deadline = self._clock.monotonic() + wait
        while True:
            taken = self._take(names, limit, lease)
            left = deadline - self._clock.monotonic()
            if taken or left <= 0 or not names or limit <= 0:
                return taken
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._world.waiters.add(waiter)
            known = [self._world.queues[name] for name in names if name in self._world.queues]
            due = min((queue.next_due() for queue in known), default=float("inf"))
            try:
                await wait_for_either(self._clock, waiter, min(left, due - self._clock.now()))
            finally:
                self._world.waiters.discard(waiter)

    async def begin(self, deliveries: Sequence[Delivery]) -> list[bool]:
        def charge(queue: LaneQueue, message: Message) -> None:
            message.attempts += 1

        return self._each(deliveries, charge)

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        until = self._clock.now() + self.dedupe_window
        return self._each(deliveries, lambda queue, message: queue.finish(message, until))

    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        now = self._clock.now()
        [kept] = self._each([delivery], lambda queue, message: queue.put_back(message, now, delay))
        return kept

    async def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        until = self._clock.now() + lease
        return self._each(deliveries, lambda queue, message: queue.set_due(message, until))

    async def end_leases(self, queues: Sequence[str]) -> int:
        now = self._clock.now()
        found = (self._world.queues.get(name) for name in dict.fromkeys(queues))
        ended = sum(queue.end_leases(now) for queue in found if queue is not None)
        self._world.wake()
        return ended

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        now = self._clock.now()
        [kept] = self._each([delivery], lambda queue, message: queue.bury(message, reason, now))
        return kept

    async def dead_letters(self, queue: str, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        check_key("queue", queue)
        found = self._world.queues.get(queue)
        if found is None:
            return []
        return [found.dead[id].letter for id in sorted(id for id in found.dead if id > after)[: max(0, limit)]]

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[bool]:
        check_key("queue", queue)
        found, now = self._world.queues.get(queue), self._clock.now()
        done = [found is not None and found.redrive(id, now) for id in ids]
        self._world.wake()
        return done

    async def discard(self, queue: str, ids: Sequence[str]) -> list[bool]:
        check_key("queue", queue)
        found, until = self._world.queues.get(queue), self._clock.now() + self.dedupe_window
        return [found is not None and found.discard(id, until) for id in ids]

    async def depth(self, queue: str) -> QueueDepth:
        check_key("queue", queue)
        found = self._world.queues.get(queue)
        return QueueDepth() if found is None else found.depth(self._clock.now())

    async def queues(self) -> list[str]:
        return sorted(name for name, queue in self._world.queues.items() if queue.messages or queue.dead)

    def _queue(self, name: str) -> LaneQueue:
        found = self._world.queues.get(name)
        if found is None:
            found = self._world.queues[name] = LaneQueue(name)
        return found

    def _take(self, names: list[str], limit: int, lease: float) -> list[Delivery]:
        now = self._clock.now()
        ready = deque(
            queue for name in names if (queue := self._world.queues.get(name)) is not None and queue.has_ready(now)
        )
        if not ready or limit <= 0:
            return []
        # Another queue comes first each time, and each may fill an equal share before any takes more.
        self._turns += 1
        ready.rotate(-(self._turns % len(ready)))
        receive, until = secrets.token_hex(8), now + lease
        share = max(1, limit // len(ready))
        taken: list[Message] = []
        while ready and len(taken) < limit:
            queue = ready.popleft()
            got = queue.take(min(share, limit - len(taken)), f"{receive}-{len(taken)}", now, until)
            taken += got
            if len(got) == share:
                ready.append(queue)
        return [message.delivery() for message in taken]

    def _each(self, deliveries: Sequence[Delivery], change: Callable[[LaneQueue, Message], None]) -> list[bool]:
        now = self._clock.now()
        outcomes = []
        for delivery in deliveries:
            queue = self._world.queues.get(delivery.queue)
            message = None if queue is None else queue.held(delivery.id, delivery.receipt, now)
            if queue is not None and message is not None:
                change(queue, message)
            outcomes.append(message is not None)
        self._world.wake()
        return outcomes
