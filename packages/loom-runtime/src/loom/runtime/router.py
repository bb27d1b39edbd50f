"""Routing: a request goes straight to its actor when this process owns it, else through the queue of its shard."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from ..clock import Clock
from ..codec import PayloadCodec
from ..errors import OutcomeUnknownError
from ..ports import MessageQueue
from .background import Background
from .deadlines import Deadlines
from .entries import unwrap
from .ids import Ids
from .job import Job
from .messages import Message, Reply, decode_reply
from .outbox import envelope
from .replies import Replies
from .request_sender import RequestSender

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
        self._shards = shards
        self._codecs = codecs
        self._host = host
        self._waiting: dict[str, tuple[asyncio.Future[Reply], Message]] = {}
        self._deadlines = Deadlines()
        self._tickets = Ids()
        self._sender = RequestSender(queue, clock, background)
        self._replies = Replies(queue, clock, background, member, self._resolve, self._ask_again)

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
                if not self._replies.open:
                    await self._replies.listen()
                self._send(message, future)
            return await future
        finally:
            deadline.cancel()
            if message.ticket:
                self._waiting.pop(message.ticket, None)

    async def forward(self, message: Message, future: asyncio.Future[Reply]) -> None:
        """Carry a request that a local caller waits for, after its shard has moved to another host."""
        try:
            await self._replies.listen()
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
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(OutcomeUnknownError("the app stopped before a reply came; the call may still run"))
                future.exception()
        await self._replies.close()

    def _send(self, message: Message, future: asyncio.Future[Reply]) -> None:
        """Queue the request; its reply, if one comes, ends ``future``.

        Each attempt has a ticket of its own: a repeated request must reach the actor, which knows whether it has
        answered it, and the queue would drop a second message of the same id.
        """
        message.reply_to = self._replies.address
        message.remember = True
        message.ticket = self._tickets.next()
        self._waiting[message.ticket] = (future, message)
        self._sender.send(message, envelope(message, self._shards, self._codecs, self._clock.now()), future)

    def _resolve(self, body: bytes) -> None:
        try:
            reply = decode_reply(unwrap(body, self._codecs))
        except Exception as error:
            _log.error("loom: a reply can't be read: %s", error)
            return
        waiting = self._waiting.get(reply.id)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(reply)

    def _ask_again(self) -> None:
        """Replies may have been lost: ask anew, under the same request ids. What was done is answered, not redone."""
        for ticket, (future, message) in list(self._waiting.items()):
            if not future.done() and message.ticket == ticket:
                del self._waiting[ticket]
                self._send(message, future)


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
