"""Topology: which server answers for a key, and the connections to the servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .channel import Channel, dial
from .connection import Connection
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

    async def redirect(self, error: Disconnected | ReplyError) -> tuple[Channel, bytes] | None:
        """Where the server says that the command is to go at once, and what to send before it there.

        None when it does not say. Raises Disconnected or ReplyError.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """End all connections."""


class Standalone(Topology):
    """One server."""

    def __init__(
        self, options: RedisOptions, on_push: Callable[[list[Any]], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__(options, on_push, on_lost)
        self._connection = Connection(self._dial)

    def ready(self, key: bytes) -> Channel | None:
        return self._connection.ready()

    async def channel(self, key: bytes) -> Channel:
        return await self._connection.get()

    async def channels(self) -> list[Channel]:
        return [await self.channel(b"")]

    async def subscriber(self) -> Channel:
        return await self.channel(b"")

    async def turn_away(self, error: Disconnected | ReplyError) -> None:
        """A READONLY server was demoted: its address may lead to another by now, so connect again."""
        if isinstance(error, ReplyError) and self._connection.drop():
            self._on_lost()

    def close(self) -> None:
        self._connection.close()

    async def _dial(self) -> Channel:
        [(host, port)] = self.options.hosts
        return await dial(self.options, host, port, on_push=self._on_push, on_lost=self._on_lost, db=self.options.db)
