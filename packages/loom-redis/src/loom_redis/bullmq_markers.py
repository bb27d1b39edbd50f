"""Waiting for jobs as BullMQ's own workers do: by blocking on the marker that whoever adds a job sets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from .channel import Channel, dial, pack
from .failures import Disconnected, ReplyError
from .options import RedisOptions

__all__ = ["Markers"]


class Markers:
    """Waits for markers of many queues at once. A waiter needs a connection of its own; idle ones are kept."""

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._idle: list[Channel] = []
        self._closed = False

    async def wait(self, prefixes: Sequence[str], seconds: float) -> str | None:
        """Pop the marker of one of the queues, and say of which; None when none came in time or the server is away.

        Whoever has popped a marker must look into the queue, or set the marker again. A cancelled wait may have popped
        one without knowing.
        """
        channel: Channel | None = None
        try:
            channel = await self._channel(seconds)
            reply = await channel.request(pack("BZPOPMIN", *(prefix + "marker" for prefix in prefixes), seconds))
        except (Disconnected, ReplyError):
            if channel is not None:
                channel.close()
            await asyncio.sleep(min(seconds, 0.1))  # looking into the queues will say what is wrong
            return None
        except BaseException:
            if channel is not None:
                channel.close()  # it would block on
            raise
        if self._closed:
            channel.close()
        else:
            self._idle.append(channel)
        return None if reply is None else reply[0].decode().removesuffix("marker")

    def close(self) -> None:
        """End the idle connections, and those in use after their waits."""
        self._closed = True
        for channel in self._idle:
            channel.close()
        self._idle.clear()

    async def _channel(self, seconds: float) -> Channel:
        while self._idle:
            channel = self._idle.pop()
            if channel.open:
                return channel
        options = msgspec.structs.replace(self._options, timeout=self._options.timeout + LONGEST_WAIT)
        [(host, port)] = options.hosts
        return await dial(options, host, port, on_push=lambda _: None, on_lost=lambda: None, db=options.db)


LONGEST_WAIT = 5.0
"""Seconds that one ``wait`` may take at most: a waiter then looks again, in case a marker was lost with its finder."""
