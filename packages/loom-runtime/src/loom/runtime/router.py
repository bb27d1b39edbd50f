"""Routing: a request goes straight to its actor when this process owns it, else through the queue of its shard."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from ..clock import Clock
from ..codec import PayloadCodec
from ..errors import OutcomeUnknownError
from ..ports import Delivery, MessageQueue
from .background import Background
from .deadlines import Deadlines
from .entries import unwrap
from .ids import Ids
from .job import Job
from .messages import Message, Reply, decode_reply, reply_queue
from .outbox import envelope
from .request_sender import RequestSender

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Router"]

_log = logging.getLogger("loom.router")
_DROP_AFTER = 0.05


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
        self._tickets = Ids()
        self._sender = RequestSender(queue, clock, background)
        self._read: list[Delivery] = []

    async def call(self, message: Message, *, timeout: float, caller: str = "") -> Reply:
        """Carry the request and wait up to ``timeout`` seconds for its reply. ``caller`` is the run that asks, if any.

        Raises OutcomeUnknownError when no reply came: the request may run until it expires. Repeating it with the same
        id is safe.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        deadline = self._deadlines.after(timeout, partial(_time_out, future, message, timeout))
        try:
            if self._host is not None and self._host.serves(message.stream, waited_for=bool(message.chain)):
                self._host.deliver(Job(message, future=future, caller=caller))
            else:
                self._send(message, future)
            return await future
        finally:
            deadline.cancel()
            if message.ticket:
                self._waiting.pop(message.ticket, None)

    async def forward(self, message: Message, future: asyncio.Future[Reply]) -> None:
        """Carry a request that a local caller waits for, after its shard has moved to another host."""
        try:
            self._send(message, future)
            await asyncio.wait([future])
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        finally:
            self._waiting.pop(message.ticket, None)

    async def close(self) -> None:
        """Nobody will hear of a reply any more: whoever still waits learns that the outcome is unknown."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(OutcomeUnknownError("the app stopped before a reply came; the call may still run"))
                future.exception()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        await self._drop()

    def _send(self, message: Message, future: asyncio.Future[Reply]) -> None:
        """Queue the request; its reply, if one comes, ends ``future``.

        Each attempt has a ticket of its own: a repeated request must reach the actor, which knows whether it has
        answered it, and the queue would drop a second message of the same id.
        """
        if self._listener is None or self._listener.done():
            self._listener = self._background.spawn(self._listen(), "loom replies")
        message.reply_to = self._reply_to
        message.remember = True
        message.ticket = self._tickets.next()
        self._waiting[message.ticket] = future
        self._sender.send(message, envelope(message, self._shards, self._codecs, self._clock.now()), future)

    async def _listen(self) -> None:
        pause = 0.05
        while True:
            try:
                deliveries = await self._queue.receive([self._reply_to], limit=500, lease=10.0, wait=5.0)
                for delivery in deliveries:
                    self._resolve(delivery)
                self._ack(deliveries)
                pause = 0.05
            except Exception as error:
                _log.warning("loom: replies can't be read: %s", error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _ack(self, deliveries: list[Delivery]) -> None:
        """Drop replies that were read, later and together: nobody waits for that, and one that stays is nobody's."""
        if deliveries and not self._read:
            self._background.spawn(self._drop_later(), "loom replies read")
        self._read += deliveries

    async def _drop_later(self) -> None:
        await asyncio.sleep(_DROP_AFTER)
        await self._drop()

    async def _drop(self) -> None:
        read, self._read = self._read, []
        if read:
            try:
                await self._queue.ack(read)
            except Exception as error:
                _log.warning("loom: %d replies can't be dropped and come again: %s", len(read), error)

    def _resolve(self, delivery: Delivery) -> None:
        try:
            reply = decode_reply(unwrap(delivery.body, self._codecs))
        except Exception as error:
            _log.error("loom: reply %s can't be read: %s", delivery.id, error)
            return
        future = self._waiting.get(reply.id)
        if future is not None and not future.done():
            future.set_result(reply)


def _time_out(future: asyncio.Future[Reply], message: Message, timeout: float) -> None:
    if not future.done():
        future.set_exception(
            OutcomeUnknownError(
                f"{message.stream}{'.' * bool(message.method)}{message.method}: no reply within {timeout:.3g} s; it "
                f"may "
                "still run. Retry under the same request id, or see whether a host serves it with 'loom status'",
                request_id=message.id,
                stream=message.stream,
            )
        )
