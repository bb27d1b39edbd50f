"""A message queue in Redis: one hash and three sorted sets for all queues, and one script a call.

Why not a Redis stream and its consumer groups: a stream hands out entries in the order of their arrival, whatever is
under way before them. An ordered group would need a stream of its own, thousands of keys to read, and a claim gives
entries back out of order; delays, priorities and dedupe would need these sorted sets besides. Here a receive from 256
queues is one look at one sorted set, since what is receivable lies in it queue by queue, and the commands of a script
take hundreds of messages of many queues at once: that is what it costs little by.

A receive that waits leaves its name with the server. The script that makes a message ready leases it in the name of
the waiter and publishes it to the waiter's process: from its sender to its receiver a message makes one hop. What was
published to a connection that was lost is found again by the receive's name.

On a cluster each queue has a slot, and so keys and scripts, of its own; waiters are told, and look for themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from loom.clock import Clock, SystemClock
from loom.errors import TooLargeError
from loom.ports import DeadLetter, Delivery, MessageQueue, OutgoingMessage, QueueDepth
from loom.ports.port import check_key

from .adapter import RedisAdapter
from .channel import Argument
from .client import Redis
from .direct import RedisDirectChannel
from .queue_receiver import Receiver
from .queue_records import dead_letter_of, next_nonce, rank_of, receive_of, sent_of
from .queue_scripts import BEGIN, DEAD, EXTEND, FINISH, LOOK, MESSAGES, RELEASE, SEND, QueueScripts
from .scripts import Script
from .together import Together

__all__ = ["RedisMessageQueue"]

_MAX_BODY = 500_000_000
"""A value of Redis is at most 512 MB (``proto-max-bulk-len``); the rest leaves room for what stands before the body."""
_BYTES = 1 << 22
"""After how many bytes a script is full."""


class RedisMessageQueue(RedisAdapter, MessageQueue):
    """A MessageQueue on Redis, ordered within a group, as durable as the server's append-only file makes it.

    Sends, begins and acks of one moment share a script. A connection that is lost in the middle of a call is no
    failure: the call is repeated, and its id tells what had happened. Time is the server's, unless a clock other than
    the system's is given.

    ``depth`` looks at every lease and delay that the server holds, page by page; the rest costs as much as it moves.
    """

    max_bytes = _MAX_BODY

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        self.dedupe_window = redis.options.dedupe_window
        super().__init__(redis, clock=clock)
        self._clock = clock or SystemClock()
        self._scripts = QueueScripts(redis, self._clock)
        self._names = self._scripts.names
        self._nonces = next_nonce()
        self._receiver = Receiver(redis, self._scripts, self._clock)
        self._rounds = 0
        self._sending = Together(self._send)
        self._beginning = Together(self._begin)
        self._acking = Together(self._ack)
        self._registered: set[str] = set()
        self._direct = RedisDirectChannel(redis)

    def direct(self) -> RedisDirectChannel:
        return self._direct

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        for message in messages:
            check_key("queue", message.queue)
            check_key("message id", message.id)
            if len(message.body) > _MAX_BODY:
                raise TooLargeError(
                    f"{message.queue}: the body of {message.id} has {len(message.body)} bytes, more than {_MAX_BODY}",
                    queue=message.queue,
                    id=message.id,
                )
        return await self._sending(messages) if messages else []

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        wanted = self._scripts.want(queues)
        if not wanted.names or limit <= 0:
            return []
        if self._scripts.one_slot or len(wanted.names) == 1:
            return await self._receiver.receive(self._nonces.next(), wanted, limit, lease, wait)
        return await self._receive_each(queues, limit, lease, wait)

    async def begin(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return await self._beginning(deliveries) if deliveries else []

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return await self._acking(deliveries) if deliveries else []

    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        [kept] = await self._finish("nack", repr(max(0.0, delay)), [delivery])
        return kept

    async def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        return await self._leases(EXTEND, repr(lease), deliveries)

    async def end_leases(self, queues: Sequence[str]) -> int:
        wanted = self._scripts.want(queues)
        if not wanted.names:
            return 0
        if self._scripts.one_slot:
            return int(await self._scripts.run(RELEASE, "", [b"", wanted.text]))
        names = [self._names.unpack(name) for name in wanted.names]
        each = [self._scripts.run(RELEASE, name, [b"", self._scripts.want([name]).text]) for name in names]
        return sum(await asyncio.gather(*each))

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        [kept] = await self._finish("bury", reason.encode(errors="replace"), [delivery])
        return kept

    async def dead_letters(self, queue: str, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        check_key("queue", queue)
        name = self._names.pack(queue)
        low = b"(e" + name + b"\0" + after.encode() if after else b"[e" + name + b"\0"
        members, found = await self._scripts.run(DEAD, queue, ["list", max(0, limit), low, b"(e" + name + b"\1"])
        pairs = zip(found[::2], found[1::2], strict=True)
        return [dead_letter_of(member[1:], *pair, self._names) for member, pair in zip(members, pairs, strict=True)]

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[bool]:
        return await self._dead(queue, ids, "redrive", self._nonces.next())

    async def discard(self, queue: str, ids: Sequence[str]) -> list[bool]:
        return await self._dead(queue, ids, "discard", repr(self.dedupe_window))

    async def depth(self, queue: str) -> QueueDepth:
        check_key("queue", queue)
        name = self._names.pack(queue)
        ready, behind, dead, timers = await self._scripts.run(LOOK, queue, ["order of one", name])
        leased = delayed = apart = 0
        for start in range(0, timers, 1000):
            page = await self._scripts.run(LOOK, queue, ["timers of one", name, start])
            leased, delayed, apart = leased + page[0], delayed + page[1], apart + page[2]
        return QueueDepth(ready=ready + behind + apart - leased - delayed, delayed=delayed, leased=leased, dead=dead)

    async def queues(self) -> list[str]:
        units = [""]
        if not self._scripts.one_slot:
            index = self._redis.key("q", "", "names")
            units = [name.decode() for name in await self._redis.call("SMEMBERS", index, key=index, repeatable=True)]
        found: set[bytes] = set()
        for unit in units:
            found.update(await self._scripts.run(LOOK, unit, ["order"]))
            start = 0
            while names := await self._scripts.run(LOOK, unit, ["names", start]):
                found.update(names)
                start += 1000
        return sorted(self._names.unpack(name) for name in found)

    async def _drain(self) -> None:
        for calls in (self._sending, self._beginning, self._acking):
            await calls.drain()
        await self._receiver.close()
        await self._direct.close()

    async def _send(self, calls: list[Sequence[OutgoingMessage]]) -> list[bool]:
        outcomes: list[bool] = []
        for call in _portions(calls):
            if self._scripts.one_slot:
                outcomes += await self._send_to("", call)
                continue
            await self._register({message.queue for message in call})
            outcomes += await self._scripts.by_queue(call, self._send_to)
        return outcomes

    async def _send_to(self, unit: str, messages: Sequence[OutgoingMessage]) -> list[bool]:
        caller, names = self._nonces.next(), self._names
        arguments: list[Argument] = [caller, repr(self.dedupe_window), "0"]
        for message in messages:
            arguments += (
                names.message(message.queue, message.id),
                sent_of(message, caller, names),
                repr(message.delay) if message.delay > 0 else b"",
            )
        began = asyncio.get_running_loop().time()

        def again() -> list[Argument]:
            arguments[2] = repr(asyncio.get_running_loop().time() - began + 1.0)
            return arguments

        return [outcome == 1 for outcome in await self._scripts.run(SEND, unit, arguments, again)]

    async def _receive_each(self, queues: Sequence[str], limit: int, lease: float, wait: float) -> list[Delivery]:
        """Receive where each queue may lie on another server."""
        found: list[Delivery] = []
        self._rounds += 1
        turn = self._rounds % len(queues)
        asked = list(dict.fromkeys([*queues[turn:], *queues[:turn]]))
        while asked and len(found) < limit:
            some, rest = asked[: limit - len(found)], asked[limit - len(found) :]
            share = (limit - len(found)) // len(some)
            batches = await asyncio.gather(*(self.receive([name], limit=share, lease=lease) for name in some))
            found += [delivery for batch in batches for delivery in batch]
            asked = rest + [name for name, batch in zip(some, batches, strict=True) if len(batch) == share]
        if found or wait <= 0:
            return found
        waiting = [asyncio.ensure_future(self.receive([name], limit=1, lease=lease, wait=wait)) for name in queues]
        try:
            pending: set[asyncio.Future[list[Delivery]]] = set(waiting)
            while pending and not found:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                found += [delivery for task in done for delivery in task.result()]
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        for delivery in found[limit:]:
            await self.nack(delivery)
        return found[:limit]

    async def _begin(self, calls: list[Sequence[Delivery]]) -> list[bool]:
        return await self._leases(BEGIN, self._nonces.next(), [delivery for call in calls for delivery in call])

    async def _leases(self, script: Script, detail: Argument, deliveries: Sequence[Delivery]) -> list[bool]:
        async def some(unit: str, part: Sequence[Delivery]) -> list[bool]:
            arguments: list[Argument] = [detail]
            for delivery in part:
                arguments += (self._names.message(delivery.queue, delivery.id), receive_of(delivery.receipt))
            return [outcome == 1 for outcome in await self._scripts.run(script, unit, arguments)]

        return await self._scripts.in_units(deliveries, some)

    async def _ack(self, calls: list[Sequence[Delivery]]) -> list[bool]:
        return await self._finish("ack", repr(self.dedupe_window), [delivery for call in calls for delivery in call])

    async def _finish(self, what: str, detail: Argument, deliveries: Sequence[Delivery]) -> list[bool]:
        async def some(unit: str, part: Sequence[Delivery]) -> list[bool]:
            names = self._names
            arguments: list[Argument] = [what, detail]
            for delivery in part:
                arguments += (
                    names.message(delivery.queue, delivery.id),
                    receive_of(delivery.receipt),
                    names.pack(delivery.group) if delivery.group else b"",
                    rank_of(delivery.priority).to_bytes(4, "big"),
                )
            return [outcome == 1 for outcome in await self._scripts.run(FINISH, unit, arguments)]

        return await self._scripts.in_units(deliveries, some)

    async def _dead(self, queue: str, ids: Sequence[str], what: str, detail: Argument) -> list[bool]:
        check_key("queue", queue)
        names = [self._names.message(queue, id) for id in ids]
        return [outcome == 1 for outcome in await self._scripts.run(DEAD, queue, [what, detail, *names])]

    async def _register(self, queues: Iterable[str]) -> None:
        """Remember the names of queues, for ``queues``: no script sees more than one slot."""
        new = [queue for queue in queues if queue not in self._registered]
        if new:
            index = self._redis.key("q", "", "names")
            await self._redis.call("SADD", index, *new, key=index, repeatable=True)
            self._registered.update(new)


def _portions(calls: Iterable[Sequence[OutgoingMessage]]) -> Iterable[list[OutgoingMessage]]:
    """The messages of the calls, so many to a script; a call is divided only when it alone is too large."""
    portion: list[OutgoingMessage] = []
    size = 0
    for call in calls:
        weight = sum([len(message.body) for message in call])
        if portion and (len(portion) + len(call) > MESSAGES or size + weight > _BYTES):
            yield portion
            portion, size = [], 0
        if len(call) <= MESSAGES and weight <= _BYTES:
            portion += call
            size += weight
            continue
        for message in call:
            portion.append(message)
            size += len(message.body)
            if len(portion) == MESSAGES or size >= _BYTES:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion
