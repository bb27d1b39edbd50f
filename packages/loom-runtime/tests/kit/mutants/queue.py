"""Queues, each broken in one way."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import msgspec

from loom.adapters.memory.lanes import LaneQueue, Message, State
from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.errors import TooLargeError
from loom.ports.queue import Delivery, OutgoingMessage


class LosesNacks(InMemoryMessageQueue):
    """A message that is given back is gone."""

    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        [done] = await self.ack([delivery])
        return done


class IgnoresNackDelays(InMemoryMessageQueue):
    """A message that is given back comes again at once."""

    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        return await super().nack(delivery)


class _Behind(LaneQueue):
    def put_back(self, message: Message, now: float, delay: float) -> None:
        self._send_again(message, now + delay if delay > 0 else None)

    def settle(self, now: float) -> None:
        for message in list(self.messages.values()):
            if message.state is State.LEASED and message.due <= now:
                self._send_again(message, None)
        super().settle(now)

    def _send_again(self, message: Message, due: float | None) -> None:
        self._remove(message)
        again = self.messages[message.id] = copy.copy(message)
        again.receipt, again.place = "", 0
        if due is None:
            again.state = State.READY
            self._enter(again)
        else:
            again.state = State.PLANNED
            self.set_due(again, due)


class RedeliversBehind(InMemoryMessageQueue):
    """What comes again, after a nack or the end of a lease, comes behind what was sent later."""

    def _queue(self, name: str) -> LaneQueue:
        return self._world.queues.setdefault(name, _Behind(name))


class IgnoresGroups(InMemoryMessageQueue):
    """Hands out the next message of a group while the one before it is under way."""

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        return await super().send_many([msgspec.structs.replace(message, group="") for message in messages])


class DoesNotDedupe(InMemoryMessageQueue):
    """Takes a message whose id it holds."""

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        for message in messages:
            if message.queue in self._world.queues:
                self._world.queues[message.queue].messages.pop(message.id, None)
        await super().send_many(messages)
        return [True] * len(messages)


class ForgetsFinishedIds(InMemoryMessageQueue):
    """Takes a message again as soon as the first is finished."""

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        done = await super().ack(deliveries)
        for delivery in deliveries:
            self._world.queues[delivery.queue]._finished.pop(delivery.id, None)
        return done


class ChargesAtReceive(InMemoryMessageQueue):
    """Counts an attempt that nobody has begun."""

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        deliveries = await super().receive(queues, limit=limit, lease=lease, wait=wait)
        await super().begin(deliveries)
        return deliveries

    async def begin(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return await self.extend(deliveries, 30.0)


class AcksAfterTheLease(InMemoryMessageQueue):
    """Lets whoever lost the lease finish the message of its next holder."""

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        done = []
        for delivery in deliveries:
            queue = self._world.queues[delivery.queue]
            message = queue.messages.get(delivery.id)
            if message is not None:
                queue.finish(message, self._clock.now() + self.dedupe_window)
            done.append(message is not None)
        return done


class LeasesNeverEnd(InMemoryMessageQueue):
    """Keeps the message of a dead consumer for ever."""

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        return await super().receive(queues, limit=limit, lease=1e9, wait=wait)


class IgnoresDelays(InMemoryMessageQueue):
    """Delivers a delayed message at once."""

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        return await super().send_many([msgspec.structs.replace(message, delay=0.0) for message in messages])


class DeliversWhatExpired(InMemoryMessageQueue):
    """Never looks at the end of a message's life."""

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        return await super().send_many([msgspec.structs.replace(message, expires_at=None) for message in messages])


class IgnoresPriority(InMemoryMessageQueue):
    """Delivers in the order of sending."""

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        return await super().send_many([msgspec.structs.replace(message, priority=0) for message in messages])


class SendsUntilOneIsTooLarge(InMemoryMessageQueue):
    """Refuses a batch after it has sent the first messages of it."""

    max_bytes = 1000

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        taken: list[bool] = []
        for message in messages:
            if len(message.body) > self.max_bytes:
                raise TooLargeError(f"{message.queue}: {message.id} has {len(message.body)} bytes")
            taken += await super().send_many([message])
        return taken


class DropsDeadLetters(InMemoryMessageQueue):
    """Forgets what was given up."""

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        [done] = await self.ack([delivery])
        return done


class RedrivesOldAttempts(InMemoryMessageQueue):
    """A redriven message is charged with its past."""

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[bool]:
        attempts = {letter.id: letter.attempts for letter in await self.dead_letters(queue)}
        done = await super().redrive(queue, ids)
        for id in set(ids) & set(attempts):
            self._world.queues[queue].messages[id].attempts = attempts[id]
        return done


class ServesTheFirstQueueFirst(InMemoryMessageQueue):
    """Starves the queues that were named last."""

    def _take(self, names: list[str], limit: int, lease: float) -> list[Delivery]:
        taken: list[Delivery] = []
        for name in names:
            if len(taken) < limit:
                taken += super()._take([name], limit - len(taken), lease)
        return taken


class TakesPartOfABadBatch(InMemoryMessageQueue):
    """Sends the first messages of a batch that it then refuses."""

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        taken: list[bool] = []
        for message in messages:
            taken += await super().send_many([message])
        return taken


class IsNotDurable(InMemoryMessageQueue):
    """Declares that it is, and keeps everything in the process."""

    async def close(self) -> None:
        self._world.queues.clear()
