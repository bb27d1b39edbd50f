"""The inbox: reads the mailbox queues of the shards that this host owns, and settles what was read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..codec import encode, error_info
from ..errors import StoreUnavailableError, TooLargeError
from ..ports import Delivery, OutgoingMessage
from .crashpoints import crash_point
from .entries import unwrap, wrap
from .job import Job
from .messages import DIRECT, Kind, Message, Reply, decode_message, mailbox_queue, shard_of, type_mailbox, type_of

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Inbox"]

_log = logging.getLogger("loom.inbox")
LEASE = 30.0
_BATCH = 500
_WAIT = 1.0
_REPLY_LIFE = 300.0
_TRIES = 6
_ROUNDS = 5


class Inbox:
    """Receives in batches, keeps leases alive while work goes on, and acks last."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._outstanding: dict[str, Delivery] = {}
        self._given_back: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settling: list[tuple[Job, Reply | None]] = []
        self._settler: asyncio.Task[None] | None = None
        self._beginning: list[tuple[Delivery, asyncio.Future[bool]]] = []
        self.stopped = False

    def start(self) -> None:
        """Begin to read."""
        self._reader = self._host.background.spawn(self._read(), "loom inbox")
        self._keeper = self._host.background.spawn(self._keep(), "loom leases")

    async def stop(self) -> None:
        """Read nothing more; what was read goes on."""
        self.stopped = True
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    async def close(self) -> None:
        """Settle what has an end, and give back the rest unharmed."""
        while self._settler is not None:
            await asyncio.wait([self._settler])
        if self._keeper is not None:
            self._keeper.cancel()
        for delivery in list(self._outstanding.values()):
            await self._host.queue.nack(delivery)
        self._outstanding.clear()

    async def give_back(self, queues: set[str]) -> None:
        """Return what was read from mailboxes that are going to another host and has not begun."""
        for receipt, delivery in list(self._outstanding.items()):
            if delivery.queue in queues:
                self._outstanding.pop(receipt, None)
                await self._host.queue.nack(delivery)

    async def inherit(self, queues: Sequence[str]) -> None:
        """Take over what the last reader of mailboxes had not acked, without waiting for its leases to end."""
        try:
            await self._host.queue.end_leases(queues)
        except Exception as error:
            _log.warning("loom: what the last reader of %d mailboxes had read comes when its leases end: %s",
                         len(queues), error)  # fmt: skip

    @property
    def outstanding(self) -> int:
        """How many requests were read and are not settled."""
        return len(self._outstanding)

    async def begin(self, delivery: Delivery) -> bool:
        """Charge an attempt, together with others that begin in the same moment. False when the lease was lost.

        Raises what the queue raised: whether it was charged is then unknown, and the work must not start.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._beginning.append((delivery, future))
        if len(self._beginning) == 1:
            self._host.background.spawn(self._begin(), "loom begin")
        return await future

    def suspicious(self, delivery: Delivery) -> bool:
        """Whether an earlier attempt ended without a word: the host may have crashed over it."""
        return delivery.attempts > 0 and delivery.id not in self._given_back

    def settle(self, job: Job, reply: Reply | None) -> None:
        """Send the reply, then ack; together with others that end in the same moment."""
        self._settling.append((job, reply))
        if self._settler is None:
            self._settler = self._host.background.spawn(self._settle(), "loom settle")

    async def retry(self, delivery: Delivery, delay: float) -> None:
        """Give a message back after a failure that was reported.

        A queue that can't take it back now is asked again until the lease is over; then the message comes by itself.
        """
        self._outstanding.pop(delivery.receipt, None)
        self._given_back.add(delivery.id)
        host, pause = self._host, 0.05
        while True:
            try:
                await host.queue.nack(delivery, delay=delay)
                return
            except Exception as error:
                if host.clock.now() + pause >= delivery.lease_until:
                    _log.warning("loom: %s can't be given back and comes when its lease ends: %s", delivery.id, error)
                    return
                await host.clock.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Give a message up."""
        self._outstanding.pop(delivery.receipt, None)
        self._given_back.discard(delivery.id)
        _log.error("loom: %s goes to the dead letters of %s: %s", delivery.id, delivery.queue, reason)
        await self._host.queue.dead_letter(delivery, reason)

    async def return_unbegun(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what was read and not begun, because one before it is to be tried again first."""
        for delivery in deliveries:
            self._outstanding.pop(delivery.receipt, None)
            await self._host.queue.nack(delivery)

    async def moved(self, deliveries: Sequence[Delivery]) -> None:
        """Ack what another mailbox holds now."""
        await self._host.queue.ack(deliveries)
        for delivery in deliveries:
            self._outstanding.pop(delivery.receipt, None)
            self._given_back.discard(delivery.id)

    def forget(self, delivery: Delivery) -> None:
        """Neither ack nor nack: the lease will end and the message come again."""
        self._outstanding.pop(delivery.receipt, None)

    async def _read(self) -> None:
        host, pause = self._host, 0.05
        while True:
            queues = self._mailboxes()
            try:
                if not queues:
                    await host.clock.sleep(0.1)
                    continue
                deliveries = await host.queue.receive(queues, limit=_BATCH, lease=LEASE, wait=_WAIT)
                pause = 0.05
            except Exception as error:
                _log.warning("loom: mailboxes can't be read: %s", error)
                await host.clock.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            apart = host.placement.types.apart
            for delivery in deliveries:
                self._outstanding[delivery.receipt] = delivery
                try:
                    message = decode_message(unwrap(delivery.body, host.codecs))
                except Exception as error:
                    await self.dead_letter(delivery, f"it can't be read: {error}")
                    continue
                if apart and self._is_apart(message, delivery):
                    host.relay.put(Job(message, delivery=delivery))
                elif message.kind is Kind.WAKE:
                    host.recovery.wake(Job(message, delivery=delivery))
                else:
                    host.deliver(Job(message, delivery=delivery))
            while len(self._outstanding) > 4 * _BATCH:
                await asyncio.sleep(0.005)
            if deliveries:
                # What was just delivered asks the queue to charge its attempt: that goes first, and this with it.
                for _ in range(_ROUNDS):
                    await asyncio.sleep(0)

    def _mailboxes(self) -> list[str]:
        placement = self._host.placement
        queues = [mailbox_queue(shard) for shard in placement.owned()]
        if placement.types.leases:
            queues += [type_mailbox(*unit) for unit in placement.types.leases if unit not in placement.types.leaving]
        return queues

    def _is_apart(self, message: Message, delivery: Delivery) -> bool:
        """Whether the request, read from its shard's mailbox, belongs into that of its type."""
        shard = shard_of(message.stream, self._host.options.shards)
        unit = (shard, type_of(message.stream))
        return unit in self._host.placement.types.apart and delivery.queue == mailbox_queue(shard)

    async def _keep(self) -> None:
        while True:
            await self._host.clock.sleep(LEASE / 3)
            deliveries = list(self._outstanding.values())
            if deliveries:
                try:
                    await self._host.queue.extend(deliveries, LEASE)
                except Exception as error:
                    _log.warning("loom: %d leases can't be extended: %s", len(deliveries), error)

    async def _begin(self) -> None:
        batch, self._beginning = self._beginning, []
        try:
            outcomes = await self._host.queue.begin([delivery for delivery, _ in batch])
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (delivery, future), begun in zip(batch, outcomes, strict=True):
            if not begun:
                self.forget(delivery)
            future.set_result(begun)

    async def _settle(self) -> None:
        host = self._host
        try:
            while self._settling:
                batch, self._settling = self._settling, []
                now = host.clock.now()
                replies = [
                    OutgoingMessage(
                        queue=job.message.reply_to,
                        id=f"{job.message.ticket or reply.id}/{job.delivery.receipt if job.delivery else ''}",
                        body=wrap(encode(_under_ticket(job, reply)), host.codecs),
                        expires_at=now + _REPLY_LIFE,
                    )
                    for job, reply in batch
                    if reply is not None and job.message.reply_to and job.message.kind is not Kind.SEND
                ]  # fmt: skip
                deliveries = [job.delivery for job, _ in batch if job.delivery is not None]
                await self._finish(replies, deliveries)
                for delivery in deliveries:
                    self._outstanding.pop(delivery.receipt, None)
                    self._given_back.discard(delivery.id)
        finally:
            self._settler = None

    async def _finish(self, replies: list[OutgoingMessage], deliveries: list[Delivery]) -> None:
        """Reply, then ack. What can't be settled comes again when its lease ends, and is answered from the journal.

        Until then later requests of its actor wait behind it, so a queue that is down or full is asked again for as
        long as a lease lasts.
        """
        host, pause, attempt = self._host, 0.02, 0
        until = host.clock.monotonic() + LEASE
        straight = [(reply.queue, reply.body) for reply in replies if reply.queue.startswith(DIRECT)]
        queued = [reply for reply in replies if not reply.queue.startswith(DIRECT)] if straight else replies
        while True:
            attempt += 1
            try:
                if queued:
                    await self._reply(queued)
                    crash_point("turn.replied")
                if straight:
                    # Sent in one breath, the replies before the acks: a caller that hears nothing asks again.
                    await asyncio.gather(self._reply_straight(straight), host.queue.ack(deliveries))
                    crash_point("turn.replied")
                else:
                    await host.queue.ack(deliveries)
                return
            except Exception as error:
                down = isinstance(error, StoreUnavailableError) and host.clock.monotonic() + pause < until
                if not down and attempt >= _TRIES:
                    _log.warning("loom: %d requests are done but can't be acked; they will come again: %s",
                                 len(deliveries), error)  # fmt: skip
                    return
                await host.clock.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _reply_straight(self, replies: list[tuple[str, bytes]]) -> None:
        direct = self._host.queue.direct()
        if direct is None:
            _log.error("loom: %d callers wait for replies by a way that this host's queue does not have; give every "
                       "process the same LOOM_QUEUE_URL", len(replies))  # fmt: skip
        else:
            await direct.send_many(replies)

    async def _reply(self, replies: list[OutgoingMessage]) -> None:
        try:
            await self._host.queue.send_many(replies)
        except TooLargeError as error:
            if len(replies) > 1:
                for reply in replies:
                    await self._reply([reply])
                return
            [reply] = replies
            refused = TooLargeError(f"the result is larger than the queue takes: {error}; the call took effect")
            told = Reply(reply.id.rpartition("/")[0], error=error_info(refused))
            await self._host.queue.send(OutgoingMessage(
                queue=reply.queue, id=reply.id, body=wrap(encode(told), self._host.codecs), expires_at=reply.expires_at,
            ))  # fmt: skip


def _under_ticket(job: Job, reply: Reply) -> Reply:
    """The reply as whoever waits for this attempt will know it."""
    return Reply(job.message.ticket or reply.id, reply.result, reply.error)
