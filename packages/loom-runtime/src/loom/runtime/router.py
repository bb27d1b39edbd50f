"""Routing: a request goes straight to its actor when this process owns it, else through the queue of its shard."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from ..clock import Clock
from ..codec import PayloadCodec
from ..errors import OutcomeUnknownError, StoreUnavailableError
from ..ports import MessageQueue
from .background import Background
from .deadlines import Deadlines
from .entries import unwrap
from .job import Job
from .messages import Message, Reply, decode_reply, reply_queue
from .outbox import envelope

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Router"]

_log = logging.getLogger("loom.router")


class Router:
    """Carries requests and brings replies back. Without a local host everything goes through the queue."""

    def __init__(
        self, queue: MessageQueue, clock: Clock, background: Background, member: str, shards: int,
        codecs: tuple[PayloadCodec, ...], host: Host | None = None,
    ) -> None:  # fmt: skip
        self._queue = queue
        self._clock = clock
        self._background = background
        self._reply_to = reply_queue(member)
        self._shards = shards
        self._codecs = codecs
        self._host = host
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._deadlines = Deadlines()

    async def call(self, message: Message, *, timeout: float) -> Reply:
        """Carry the request and wait up to ``timeout`` seconds for its reply.

        Raises OutcomeUnknownError when no reply came: the request may run until it expires. Repeating it with the same
        id is safe.
        """
        if self._host is not None and self._host.serves(message.stream):
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._host.deliver(Job(message, future=future))
        else:
            future = await self._send(message)
        deadline = self._deadlines.after(timeout, partial(_time_out, future, message, timeout))
        try:
            return await future
        finally:
            deadline.cancel()
            if self._waiting:
                self._waiting.pop(message.id, None)

    async def forward(self, message: Message, future: asyncio.Future[Reply]) -> None:
        """Carry a request that a local caller waits for, after its shard has moved to another host."""
        try:
            reply = await (await self._send(message))
        except Exception as error:
            if not future.done():
                future.set_exception(error)
            return
        if not future.done():
            future.set_result(reply)

    async def _send(self, message: Message) -> asyncio.Future[Reply]:
        if self._listener is None or self._listener.done():
            self._listener = self._background.spawn(self._listen(), "loom replies")
        message.reply_to = self._reply_to
        message.remember = True
        future = self._waiting.get(message.id)
        if future is None or future.done():
            future = self._waiting[message.id] = asyncio.get_running_loop().create_future()
        await self._queue.send(envelope(message, self._shards, self._codecs, self._clock.now()))
        return future

    async def _listen(self) -> None:
        pause = 0.05
        while True:
            try:
                deliveries = await self._queue.receive([self._reply_to], limit=500, lease=10.0, wait=5.0)
                if deliveries:
                    for delivery in deliveries:
                        self._resolve(decode_reply(unwrap(delivery.body, self._codecs)))
                    await self._queue.ack(deliveries)
                pause = 0.05
            except (StoreUnavailableError, OSError) as error:
                _log.warning("loom: replies can't be read: %s", error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _resolve(self, reply: Reply) -> None:
        future = self._waiting.get(reply.id)
        if future is not None and not future.done():
            future.set_result(reply)


def _time_out(future: asyncio.Future[Reply], message: Message, timeout: float) -> None:
    if not future.done():
        future.set_exception(
            OutcomeUnknownError(
                f"{message.stream}{'.' * bool(message.method)}{message.method}: no reply within {timeout:.3g} s; it may "
                "still run. Retry under the same request id, or see whether a host serves it with 'loom status'",
                request_id=message.id,
                stream=message.stream,
            )
        )
