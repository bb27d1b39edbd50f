"""Sentinel: the master of a group, as its sentinels name it. https://redis.io/docs/latest/develop/reference/sentinel-clients/"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from .channel import Channel, dial, pack
from .connection import Connection
from .failures import Disconnected, ReplyError
from .options import RedisOptions
from .topology import Topology

__all__ = ["SentinelTopology"]

_SWITCH = b"+switch-master"


class SentinelTopology(Topology):
    """The master of one group.

    A sentinel is asked before every connection, and what it names must say itself that it is a master. One sentinel is
    listened to, so that a failover moves us at once, also away from a master that hangs; without any that can be
    listened to, the lost connection or READONLY does it later.
    """

    def __init__(
        self, options: RedisOptions, on_push: Callable[[list[Any]], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__(options, on_push, on_lost)
        self._connection = Connection(self._dial_master)
        self._asked = 0
        self._master: tuple[str, int] | None = None
        self._sentinel: Channel | None = None
        # Sentinels know neither the servers' databases nor their AOF.
        self._sentinel_options = msgspec.structs.replace(options, wait_aof=0, db=0)

    def ready(self, key: bytes) -> Channel | None:
        return self._connection.ready()

    async def channel(self, key: bytes) -> Channel:
        return await self._connection.get()

    async def channels(self) -> list[Channel]:
        return [await self.channel(b"")]

    async def subscriber(self) -> Channel:
        return await self.channel(b"")

    async def turn_away(self, error: Disconnected | ReplyError) -> None:
        """It was demoted: ask the sentinels anew."""
        if isinstance(error, ReplyError):
            self._leave()

    def close(self) -> None:
        self._connection.close()
        if self._sentinel is not None:
            self._sentinel.close()
            self._sentinel = None

    def _leave(self) -> None:
        if self._connection.drop():
            self._on_lost()

    async def _dial_master(self) -> Channel:
        host, port = await self._find_master()
        channel = await dial(self.options, host, port, on_push=self._on_push, on_lost=self._on_lost, db=self.options.db)
        if channel.role != "master":
            channel.close()
            self._forget_sentinel()
            raise Disconnected(f"the sentinels name {host}:{port}, which is no master yet", sent=False)
        self._master = (host, port)
        return channel

    async def _find_master(self) -> tuple[str, int]:
        """Ask one sentinel after the other, beginning with the one that is listened to."""
        said = "none of the sentinels answers"
        for _ in range(len(self.options.hosts)):
            try:
                sentinel = await self._listened()
                found = await sentinel.request(pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.options.service))
            except (Disconnected, ReplyError) as error:
                said = f"none of the sentinels answers: {error}"
                self._forget_sentinel()
                continue
            if found is None:
                said = f"the sentinels do not know a group {self.options.service!r}"
                self._forget_sentinel()
                continue
            return found[0].decode(), int(found[1])
        raise Disconnected(said, sent=False)

    def _forget_sentinel(self) -> None:
        """Ask the next one from now on."""
        self._asked += 1
        sentinel, self._sentinel = self._sentinel, None
        if sentinel is not None:
            sentinel.close()

    async def _listened(self) -> Channel:
        if self._sentinel is not None and self._sentinel.open:
            return self._sentinel
        host, port = self.options.hosts[self._asked % len(self.options.hosts)]
        self._sentinel = sentinel = await self._dial_sentinel(host, port)
        sentinel.tell(pack("SUBSCRIBE", _SWITCH))
        return sentinel

    async def _dial_sentinel(self, host: str, port: int) -> Channel:
        options = self.options
        own = (options.sentinel_username, options.sentinel_password)
        for credentials in (own,) if any(own) else ((options.username, options.password), ("", "")):
            with contextlib.suppress(ReplyError):
                return await dial(
                    self._sentinel_options, host, port,
                    on_push=self._hear, on_lost=self._sentinel_lost, credentials=credentials,
                )  # fmt: skip
        raise Disconnected(f"the sentinel {host}:{port} does not let us in; see sentinel_password", sent=False)

    def _hear(self, message: list[Any]) -> None:
        """``+switch-master``: ``name old-host old-port new-host new-port``."""
        if message[0] != b"message" or message[1] != _SWITCH:
            return
        name, _, _, host, port = message[2].decode().split(" ")
        if name == self.options.service and self._master not in (None, (host, int(port))):
            self._leave()

    def _sentinel_lost(self) -> None:
        """Listen to another one, if the connection to the master does not ask for one anyway."""
        if self._connection.ready() is not None:
            task = asyncio.ensure_future(self._listen_again())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _listen_again(self) -> None:
        """Another sentinel may know of a failover by now, so ask it as well."""
        with contextlib.suppress(Disconnected, ReplyError):
            found = await self._find_master()
            if self._master not in (None, found):
                self._leave()
