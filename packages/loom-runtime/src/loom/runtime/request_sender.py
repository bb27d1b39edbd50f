"""Requests on their way to the queue: those of one moment go together, one batch at a time, so that they keep order."""

from __future__ import annotations

import asyncio

from ..clock import Clock
from ..errors import OutcomeUnknownError, StoreUnavailableError
from ..ports import MessageQueue, OutgoingMessage
from .background import Background
from .messages import Message, Reply

__all__ = ["RequestSender"]

_MAX_BATCH = 500
_PATIENCE = 5.0

Request = tuple[Message, OutgoingMessage, "asyncio.Future[Reply]"]


class RequestSender:
    """Queues requests that somebody waits for; what can't be queued ends that wait with an error.

    A queue that fails is tried again for five seconds: then whoever waits gets its error, or OutcomeUnknownError where
    one of the tries may have succeeded. A request whose caller has gone is not tried again.
    """

    def __init__(self, queue: MessageQueue, clock: Clock, background: Background) -> None:
        self._queue = queue
        self._clock = clock
        self._background = background
        self._waiting: list[Request] = []
        self._sending = False

    def send(self, message: Message, outgoing: OutgoingMessage, reply: asyncio.Future[Reply]) -> None:
        """Queue a request in its envelope; an error that keeps it from the queue becomes that of ``reply``."""
        self._waiting.append((message, outgoing, reply))
        if not self._sending:
            self._sending = True
            self._background.spawn(self._run(), "loom requests")

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                await self._deliver(batch)
        finally:
            self._sending = False

    async def _deliver(self, batch: list[Request]) -> None:
        until, pause, unsure = self._clock.monotonic() + _PATIENCE, 0.02, False
        while batch := [request for request in batch if not request[2].done()]:
            try:
                await self._queue.send_many([outgoing for _, outgoing, _ in batch])
                return
            except StoreUnavailableError as error:
                unsure = unsure or error.unknown
                if self._clock.monotonic() >= until:
                    for message, _, reply in batch:
                        _fail(reply, _unknown(message, error) if unsure else error)
                    return
            except Exception as error:
                if len(batch) == 1:
                    _fail(batch[0][2], error)
                    return
                for request in batch:  # one of them is at fault, and the others are not to suffer for it
                    await self._deliver([request])
                return
            await self._clock.sleep(pause)
            pause = min(pause * 2, 1.0)


def _unknown(message: Message, error: StoreUnavailableError) -> OutcomeUnknownError:
    unknown = OutcomeUnknownError(
        f"{message.stream}: the queue did not say whether it took the request ({error}); retry under the same "
        "request id",
        request_id=message.id,
        stream=message.stream,
    )
    unknown.__cause__ = error
    return unknown


def _fail(reply: asyncio.Future[Reply], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
