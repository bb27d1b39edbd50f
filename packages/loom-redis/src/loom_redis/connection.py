"""A connection that comes back: made when somebody needs it, by one attempt at a time, with pauses after failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from .channel import Channel
from .failures import Disconnected

__all__ = ["Connection"]

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class Connection:
    """The way to one server. However many wait for it, they share one attempt to connect.

    After attempts that failed in a row the next one waits, up to half a second, so that a server that is gone or full
    sees a few attempts a second from each process and no storm. The first after a connection was lost goes at once.
    """

    def __init__(self, make: Callable[[], Awaitable[Channel]]) -> None:
        self._make = make
        self._channel: Channel | None = None
        self._attempt: asyncio.Task[Channel] | None = None
        self._failures = 0
        self._closed = False

    def ready(self) -> Channel | None:
        """The channel, if it is open. Never waits."""
        channel = self._channel
        return channel if channel is not None and channel.open else None

    async def get(self) -> Channel:
        """The open channel. Raises Disconnected or ReplyError; a caller that is cancelled leaves the attempt going."""
        if (channel := self.ready()) is not None:
            return channel
        if self._closed:
            raise Disconnected("the connection was closed", sent=False)
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.ensure_future(self._connect())
        try:
            return await asyncio.shield(self._attempt)
        except asyncio.CancelledError:
            if not _being_cancelled():  # it was the attempt that was cancelled, by close
                raise Disconnected("the connection was closed", sent=False) from None
            raise

    def drop(self) -> bool:
        """End the channel, so that the next ``get`` connects anew. Whether there was one."""
        channel, self._channel = self._channel, None
        if channel is None or not channel.open:
            return False
        channel.close()
        return True

    def close(self) -> None:
        """End the channel and whatever attempt is under way; nothing connects any more."""
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()
        self.drop()

    async def _connect(self) -> Channel:
        if self._failures:
            pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 10), _LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        try:
            channel = await self._make()
        except BaseException:
            self._failures += 1
            raise
        self._failures = 0
        self._channel = channel
        return channel


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
