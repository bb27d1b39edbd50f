"""Topology: which server answers for a key, and the connections to the servers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .channel import Channel, dial
from .failures import Disconnected, ReplyError
from .options import RedisOptions

__all__ = ["OnLost", "OnPush", "Standalone", "Topology"]

OnPush = Callable[[list[Any]], None]
OnLost = Callable[[], None]


class Topology(ABC):
    """The servers of one deployment.

    ``on_push`` gets published messages; ``on_lost`` is called when a connection that carries subscriptions has ended.
    """

    def __init__(
        self, options: RedisOptions, on_push: Callable[[list[Any]], None], on_lost: Callable[[], None]
    ) -> None:
        self.options = options
        self._on_push = on_push
        self._on_lost = on_lost

    @abstractmethod
    def ready(self, key: bytes) -> Channel | None:
        """The open channel to the server of ``key``, or None when one has to be made. Never waits."""

    @abstractmethod
    async def channel(self, key: bytes) -> Channel:
        """The channel to the server of ``key``, connecting if need be. An empty key means any server.

        Raises Disconnected or ReplyError.
        """

    @abstractmethod
    async def channels(self) -> list[Channel]:
        """A channel to every server that takes writes."""

    @abstractmethod
    async def subscriber(self) -> Channel:
        """The channel on which subscriptions are made."""

    @abstractmethod
    async def turn_away(self, error: Disconnected | ReplyError) -> None:
        """A server was the wrong one to ask (``READONLY``, ``MOVED``), or cannot be reached: look where to go now."""

    @abstractmethod
    def close(self) -> None:
        """End all connections."""


class Standalone(Topology):
    """One server."""

    def __init__(
        self, options: RedisOptions, on_push: Callable[[list[Any]], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__(options, on_push, on_lost)
        self._channel: Channel | None = None
        self._dialing: asyncio.Task[Channel] | None = None

    def ready(self, key: bytes) -> Channel | None:
        channel = self._channel
        return channel if channel is not None and channel.open else None

    async def channel(self, key: bytes) -> Channel:
        if (channel := self.ready(key)) is not None:
            return channel
        if self._dialing is None or self._dialing.done():
            self._dialing = asyncio.ensure_future(self._dial())
        return await asyncio.shield(self._dialing)

    async def channels(self) -> list[Channel]:
        return [await self.channel(b"")]

    async def subscriber(self) -> Channel:
        return await self.channel(b"")

    async def turn_away(self, error: Disconnected | ReplyError) -> None:
        """A READONLY server was demoted: its address may lead to another by now, so connect again."""
        if self._channel is not None and isinstance(error, ReplyError):
            self._channel.close()
            self._channel = None
            self._on_lost()

    def close(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _dial(self) -> Channel:
        [(host, port)] = self.options.hosts
        self._channel = await dial(
            self.options, host, port, on_push=self._on_push, on_lost=self._on_lost, db=self.options.db
        )
        return self._channel
