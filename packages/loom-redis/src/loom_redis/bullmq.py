"""BullMQMessageQueue: message queues that BullMQ in Node shares."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine, Sequence
from importlib import metadata
from typing import Any, Self, TypeVar

import msgspec

from loom.errors import ConfigurationError, StoreUnavailableError, TooLargeError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import DeadLetter, Delivery, MessageQueue, OutgoingMessage, QueueDepth, check_key

from .adapter import RedisFacts
from .bullmq_jobs import dead_letter_of, delivery_of, job_of, raw_id
from .bullmq_markers import LONGEST_WAIT, Markers
from .bullmq_names import id_of, job_id, prefix_of, queue_of
from .bullmq_scripts import load_bull_scripts
from .channel import Argument
from .client import Redis
from .options import RedisOptions
from .scripts import Script

__all__ = ["BullMQMessageQueue"]

T = TypeVar("T")

_BATCH_MESSAGES = 1000
_BATCH_BYTES = 16 * 1024 * 1024
_OURS = "loom-"
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class BullMQMessageQueue(RedisFacts, MessageQueue):
    """A MessageQueue on BullMQ queues: workers and producers in Node use the same ones, with the package ``bullmq``.

    A message is a job and its id the ``jobId``. Leased messages are *active* jobs under a lock, finished ones
    *completed*, dead letters *failed* with the reason as ``failedReason``; ``attempts`` is ``attemptsMade``.
    ``docs/bullmq.md`` has the whole mapping.

    What BullMQ can't give: the order of a group (``ORDERED``). A message that comes back is taken before newer ones,
    but while it is away newer ones go. The runtime runs over it, without order.

    Durability is the server's: ``appendonly yes`` with ``appendfsync always`` keeps every acknowledged message, and
    ``maxmemory-policy`` must be ``noeviction``. Time is the server's. A waiting receiver is woken by sends, nacks and
    redrives, from Node too, and at the end of the delays and leases that it saw when it began to wait; of others within
    5 seconds.

    - ``receive`` costs a few commands for each named queue and one for each message that is leased from it; it takes
      1000 at most.
    - ``dead_letters`` reads the ids of all dead letters of the queue; ``queues`` scans the server's keys.
    - A priority above 0 costs a search, and moving what goes before it in the list.
    """

    max_bytes = 16 * 1024 * 1024

    def __init__(self, redis: Redis, *, dedupe_window: float = 300.0, attempts: int = 1, events: int = 1000) -> None:
        """``attempts`` is how often workers in Node try a job of ours; ``events`` how many events a new queue keeps.

        Raises ConfigurationError when the package ``bullmq`` is missing.
        """
        self._scripts = load_bull_scripts()
        self.dedupe_window = dedupe_window
        self._redis = redis
        self._attempts = attempts
        self._events = events
        self._markers = Markers(redis.options)
        self._background: set[asyncio.Task[Any]] = set()
        self._started = False

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``bullmq://user:password@host:6379/0``, with the options of ``redis://`` and:

        - ``namespace`` (``bull``): the ``prefix`` that BullMQ in Node is given;
        - ``attempts`` (1): how often a worker in Node tries a job that Loom sent before it fails for good;
        - ``events`` (1000): how many events a queue keeps that Node has not set up;
        - ``tls`` (0): 1 to speak TLS.

        Raises ConfigurationError.
        """
        counts = {name: _count(url, name, default) for name, default in (("attempts", 1), ("events", 1000))}
        query = {name: value for name, value in url.query.items() if name not in counts and name != "tls"}
        query["namespace"] = url.query.get("namespace", "bull")
        options = RedisOptions.from_url(msgspec.structs.replace(url, query=query))
        options = msgspec.structs.replace(options, tls=_switch(url, "tls"))
        redis = context.shared(f"redis:{url.raw}", lambda: Redis(options))
        return cls(redis, dedupe_window=options.dedupe_window, **counts)

    async def start(self) -> None:
        if not self._started:
            await self._redis.start()
            self._markers = Markers(self._redis.options)
            self._started = True

    async def close(self) -> None:
        if self._started:
            self._started = False
            while self._background:
                await asyncio.wait(self._background)
            self._markers.close()
            await self._redis.close()

    async def facts(self) -> dict[str, str]:
        server = (await self._redis.call("INFO", "server", repeatable=True)).decode()
        version = next((line[14:].strip() for line in server.splitlines() if line.startswith("redis_version:")), "?")
        config: dict[bytes, bytes] = {}
        with contextlib.suppress(StoreUnavailableError):  # hosted servers keep CONFIG to themselves
            for name in ("appendonly", "appendfsync", "maxmemory-policy"):
                config |= await self._redis.call("CONFIG", "GET", name, repeatable=True)
        told = {name.decode(): value.decode() for name, value in config.items()}
        return {"redis": version, "bullmq": metadata.version("bullmq"), "prefix": self._redis.options.namespace} | told

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        for message in messages:
            check_key("queue", message.queue)
            check_key("message id", message.id)
        for message in messages:
            if len(message.body) > self.max_bytes:
                raise TooLargeError(
                    f"message {message.id} to {message.queue}: {len(message.body)} bytes; at most {self.max_bytes} fit"
                )
        batches = list(_batches(messages))
        if len(batches) == 1:
            return await self._send(messages)
        # A cancelled caller must not leave half of what it sent.
        return await asyncio.shield(self._spawn(self._send_batches(batches)))

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        for name in queues:
            check_key("queue", name)
        names = list(dict.fromkeys(queues))
        if not names or limit <= 0:
            return []
        prefixes = [self._prefix(name) for name in names]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        popped: set[str] = set()
        taken: list[Delivery] = []
        try:
            while True:
                taken, due = await self._take_or_return(names, prefixes, limit, lease)
                left = deadline - loop.time()
                if taken or left <= 0:
                    return taken
                try:
                    found = await self._markers.wait(prefixes, max(0.001, min(left, due, LONGEST_WAIT)))
                except asyncio.CancelledError:
                    popped.update(prefixes)
                    raise
                if found is not None:
                    popped.add(found)
        finally:
            popped.difference_update(self._prefix(delivery.queue) for delivery in taken)
            if popped and self._started:
                self._spawn(self._redis.run(self._scripts.wake, list(popped), []))

    async def begin(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return await self._each(self._scripts.begin, deliveries, [])

    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        return await self._each(self._scripts.finish, deliveries, ["completed", self._window], "null")

    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        id, token = raw_id(delivery)
        milliseconds = max(1, round(delay * 1000)) if delay > 0 else 0
        arguments: list[Argument] = [id, token, milliseconds]
        return bool(await self._redis.run(self._scripts.nack, [self._prefix(delivery.queue)], arguments))

    async def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        return await self._each(self._scripts.extend, deliveries, [_milliseconds(lease)], repeatable=True)

    async def end_leases(self, queues: Sequence[str]) -> int:
        """Only leases that Loom holds: what workers in Node hold stays theirs."""
        prefixes = [self._prefix(name) for name in dict.fromkeys(queues)]
        if not prefixes:
            return 0
        ended: int = await self._redis.run(self._scripts.end_leases, prefixes, [_OURS], repeatable=True)
        return ended

    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        [kept] = await self._each(self._scripts.finish, [delivery], ["failed", self._window], reason)
        return kept

    async def dead_letters(self, queue: str, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        check_key("queue", queue)
        prefix = self._prefix(queue)
        failed = await self._redis.call("ZRANGE", prefix + "failed", 0, -1, key=prefix, repeatable=True)
        named = [(id_of(job)[0], job) for job in (raw.decode(errors="replace") for raw in failed)]
        page = sorted((id, job) for id, job in named if id > after)[: max(0, limit)]
        calls = [self._redis.call("HGETALL", prefix + job, key=prefix, repeatable=True) for _, job in page]
        found = await asyncio.gather(*calls)
        return [dead_letter_of(queue, id, fields) for (id, _), fields in zip(page, found, strict=True) if fields]

    async def redrive(self, queue: str, ids: Sequence[str]) -> list[bool]:
        check_key("queue", queue)
        return await self._dead(self._scripts.redrive, queue, ids, [])

    async def discard(self, queue: str, ids: Sequence[str]) -> list[bool]:
        check_key("queue", queue)
        return await self._dead(self._scripts.discard, queue, ids, [self._window])

    async def depth(self, queue: str) -> QueueDepth:
        check_key("queue", queue)
        return QueueDepth(*await self._redis.run(self._scripts.depth, [self._prefix(queue)], [], repeatable=True))

    async def queues(self) -> list[str]:
        """Those of Node under the same prefix included, unless their names hold a ``%`` that is not ours."""
        start, end = f"{self._redis.options.namespace}:", ":meta"
        pattern = "".join(f"\\{char}" if char in "*?[]\\^" else char for char in start) + "*" + end
        found: dict[str, str] = {}
        cursor: Argument = 0
        while True:
            cursor, keys = await self._redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, repeatable=True)
            for key in keys:
                name = key.decode(errors="replace")[len(start) : -len(end)]
                queue = None if ":" in name else queue_of(name)
                if queue is not None:
                    found[queue] = start + name + ":"
            if cursor == b"0":
                break
        names, holding = sorted(found), []
        for n in range(0, len(names), _BATCH_MESSAGES):
            prefixes = [found[name] for name in names[n : n + _BATCH_MESSAGES]]
            holding += await self._redis.run(self._scripts.holding, prefixes, [], repeatable=True)
        return [name for name, held in zip(names, holding, strict=True) if held]

    @property
    def _window(self) -> int:
        return _milliseconds(self.dedupe_window)

    def _prefix(self, queue: str) -> str:
        return prefix_of(self._redis.options.namespace, queue)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        # Nobody may be left to look at an error; a marker that was not set is made up for by the next look of a waiter.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _send_batches(self, batches: list[Sequence[OutgoingMessage]]) -> list[bool]:
        return [accepted for batch in batches for accepted in await self._send(batch)]

    async def _send(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        numbers: dict[str, int] = {}
        arguments: list[Argument] = [self._window, self._events]
        for message in messages:
            number = numbers.setdefault(self._prefix(message.queue), len(numbers) + 1)
            arguments += (number, *job_of(message, window=self.dedupe_window, attempts=self._attempts))
        if not numbers:
            return []
        return [bool(new) for new in await self._redis.run(self._scripts.send, list(numbers), arguments)]

    async def _take_or_return(
        self, names: list[str], prefixes: list[str], limit: int, lease: float
    ) -> tuple[list[Delivery], float]:
        """``_take``; what it takes for a caller that was cancelled is given back, not held until the leases end."""
        taking = self._spawn(self._take(names, prefixes, limit, lease))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._spawn(self._return(taking))
            raise

    async def _return(self, taking: asyncio.Task[tuple[list[Delivery], float]]) -> None:
        taken, _ = await taking
        for delivery in reversed(taken):  # the first goes back last, so that it is in front
            await self.nack(delivery)

    async def _take(
        self, names: list[str], prefixes: list[str], limit: int, lease: float
    ) -> tuple[list[Delivery], float]:
        """What is ready, and the seconds until more may be."""
        token = _OURS + secrets.token_hex(8)
        # Any queue may come first, whichever other clients read them.
        first = secrets.randbelow(len(names))
        arguments: list[Argument] = [token, min(limit, _BATCH_MESSAGES), _milliseconds(lease), first]
        now, due, flat = await self._redis.run(self._scripts.receive, prefixes, arguments)
        until = now / 1000 + lease
        taken = []
        for n in range(0, len(flat), 4):
            number, id, mine, fields = flat[n : n + 4]
            pairs = dict(zip(fields[::2], fields[1::2], strict=True))
            taken.append(delivery_of(names[number - 1], id.decode(errors="replace"), mine.decode(), pairs, until))
        return taken, due / 1000 if due >= 0 else float("inf")

    async def _each(
        self,
        script: Script,
        deliveries: Sequence[Delivery],
        first: list[Argument],
        *value: Argument,
        repeatable: bool = False,
    ) -> list[bool]:
        if not deliveries:
            return []
        numbers: dict[str, int] = {}
        arguments = list(first)
        for delivery in deliveries:
            number = numbers.setdefault(self._prefix(delivery.queue), len(numbers) + 1)
            arguments += (number, *raw_id(delivery), *value)
        done = await self._redis.run(script, list(numbers), arguments, repeatable=repeatable)
        return [bool(one) for one in done]

    async def _dead(self, script: Script, queue: str, ids: Sequence[str], first: list[Argument]) -> list[bool]:
        if not ids:
            return []
        arguments = list(first)
        for id in ids:
            arguments += (job_id(id), id)
        return [bool(done) for done in await self._redis.run(script, [self._prefix(queue)], arguments)]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _count(url: LoomURL, name: str, default: int) -> int:
    text = url.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"{url}: {name} must be a whole number of at least 1", option=name)
    return int(text)


def _switch(url: LoomURL, name: str) -> bool:
    text = url.query.get(name, "0").lower()
    if text not in _SWITCH:
        raise ConfigurationError(f"{url}: {name} must be 1 or 0", option=name)
    return _SWITCH[text]


def _batches(messages: Sequence[OutgoingMessage]) -> list[Sequence[OutgoingMessage]]:
    """Cut where one script would keep the server busy for too long."""
    batches: list[Sequence[OutgoingMessage]] = []
    start = size = 0
    for n, message in enumerate(messages):
        size += len(message.body)
        if n > start and (n - start >= _BATCH_MESSAGES or size > _BATCH_BYTES):
            batches.append(messages[start:n])
            start, size = n, len(message.body)
    return [*batches, messages[start:]]
