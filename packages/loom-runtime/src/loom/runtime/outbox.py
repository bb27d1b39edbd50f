"""The outbox: committed outgoing messages on their way to the queue. One pump for every configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..clock import Clock
from ..codec import PayloadCodec, encode
from ..errors import TooLargeError
from ..ports import MessageQueue, OutgoingMessage
from .background import Background
from .crashpoints import crash_point
from .entries import wrap
from .messages import UNORDERED, Message, mailbox_queue, shard_of

__all__ = ["Outbox", "envelope"]

_log = logging.getLogger("loom.outbox")
_MAX_BATCH = 500


def envelope(message: Message, shards: int, codecs: tuple[PayloadCodec, ...], now: float) -> OutgoingMessage:
    """The message as the mailbox queue of its shard takes it; messages of one actor stay in order.

    The queue is told of no expiry: an expired message still has to reach its actor, which may have answered it before a
    crash and have messages to send; what was never run is refused there, or becomes a dead letter.
    """
    return OutgoingMessage(
        queue=mailbox_queue(shard_of(message.stream, shards)),
        id=message.ticket or message.id,
        body=wrap(encode(message), codecs),
        group="" if message.kind in UNORDERED else message.stream,
        delay=max(0.0, message.sent_at - now),
    )


class Outbox:
    """Sends what journal entries have promised, in the order of commits, until the queue has it durably."""

    def __init__(
        self, queue: MessageQueue, clock: Clock, background: Background, shards: int, codecs: tuple[PayloadCodec, ...]
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._background = background
        self._shards = shards
        self._codecs = codecs
        self._waiting: list[tuple[Sequence[Message], asyncio.Future[None]]] = []
        self._pump: asyncio.Task[None] | None = None

    def send(self, messages: Sequence[Message]) -> asyncio.Future[None]:
        """Queue messages; the future ends when all are durably queued. Sending again is harmless: ids are the same."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((messages, future))
        if self._pump is None:
            self._pump = self._background.spawn(self._run(), "loom outbox")
        return future

    async def drain(self) -> None:
        """Wait until everything handed over is queued."""
        while self._pump is not None:
            await asyncio.wait([self._pump])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                now = self._clock.now()
                outgoing = [envelope(m, self._shards, self._codecs, now) for messages, _ in batch for m in messages]
                try:
                    await self._deliver(outgoing)
                except TooLargeError:
                    for messages, future in batch:
                        await self._one_by_one(messages, future)
                    continue
                for _, future in batch:
                    _done(future)
        finally:
            self._pump = None

    async def _one_by_one(self, messages: Sequence[Message], future: asyncio.Future[None]) -> None:
        for message in messages:
            try:
                await self._deliver([envelope(message, self._shards, self._codecs, self._clock.now())])
            except TooLargeError as error:
                _log.error(
                    "loom: message %s to %s can't be sent and is given up: %s", message.id, message.stream, error
                )
        _done(future)

    async def _deliver(self, outgoing: list[OutgoingMessage]) -> None:
        pause = 0.05
        while True:
            try:
                await self._queue.send_many(outgoing)
                crash_point("outbox.sent")
                return
            except TooLargeError:
                raise
            except Exception as error:
                # The entry is committed: giving up would lose the message, so the only way is on.
                _log.warning("loom: %d outgoing messages wait for the queue: %s", len(outgoing), error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, 5.0)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
