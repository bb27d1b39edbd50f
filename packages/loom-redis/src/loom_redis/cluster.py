"""Redis Cluster: which master has which slot. https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from redis.crc import key_slot

from .channel import Channel, dial, pack
from .connection import Connection
from .failures import Disconnected, ReplyError
from .options import RedisOptions
from .topology import Topology

__all__ = ["ClusterTopology"]

_SLOTS = 16384
_REFRESH_PAUSE = 0.1

Address = tuple[str, int]


class ClusterTopology(Topology):
    """The masters of a cluster, a connection each.

    The map of slots is read from any node at the first use, and again when a node cannot be reached or says that it is
    the wrong one. Subscriptions are made on one node: what is published on any is told to all.
    """

    def __init__(
        self, options: RedisOptions, on_push: Callable[[list[Any]], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__(options, on_push, on_lost)
        self._slots: list[Address | None] = [None] * _SLOTS
        self._nodes: dict[Address, Connection] = {}
        self._masters: list[Address] = []
        self._subscribed: Address | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._read_at = float("-inf")
        self._closed = False

    def ready(self, key: bytes) -> Channel | None:
        if not key:
            for address in self._masters:
                if (channel := self._nodes[address].ready()) is not None:
                    return channel
            return None
        owner = self._slots[key_slot(key)]
        return self._nodes[owner].ready() if owner is not None else None

    async def channel(self, key: bytes) -> Channel:
        if not self._masters:
            await self._refresh()
        if not key:
            return self.ready(b"") or await self._any()
        slot = key_slot(key)
        if (address := self._slots[slot]) is None:
            await self._refresh()
            if (address := self._slots[slot]) is None:
                raise ReplyError(f"CLUSTERDOWN no node serves slot {slot}")
        return await self._node(address).get()

    async def channels(self) -> list[Channel]:
        if not self._masters:
            await self._refresh()
        return list(await asyncio.gather(*(self._node(address).get() for address in self._masters)))

    async def subscriber(self) -> Channel:
        if not self._masters:
            await self._refresh()
        # The one from before first; the others when it cannot be reached.
        for address in sorted(self._masters, key=lambda master: master != self._subscribed):
            with contextlib.suppress(Disconnected, ReplyError):
                channel = await self._node(address).get()
                self._subscribed = address
                return channel
        raise Disconnected("no node of the cluster can be reached", sent=False)

    async def redirect(self, error: Disconnected | ReplyError) -> tuple[Channel, bytes] | None:
        if not isinstance(error, ReplyError) or error.code not in ("MOVED", "ASK"):
            return None
        _, slot, where = str(error).split(" ")[:3]
        host, _, port = where.rpartition(":")
        address = (host or self._any_host(), int(port))
        if error.code == "ASK":
            return await self._node(address).get(), pack("ASKING")
        self._slots[int(slot)] = address
        self._refresh_soon()  # others have moved with it, most likely
        return await self._node(address).get(), b""

    async def turn_away(self, error: Disconnected | ReplyError) -> None:
        """Read the map again, from whichever node answers. The caller tries again, also when none did."""
        with contextlib.suppress(Disconnected, ReplyError):
            await self._refresh()

    def close(self) -> None:
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
        for node in self._nodes.values():
            node.close()

    def _node(self, address: Address) -> Connection:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Connection(lambda: self._dial(address))
        return node

    async def _dial(self, address: Address) -> Channel:
        def on_lost() -> None:
            if self._subscribed == address:
                self._on_lost()

        return await dial(self.options, *address, on_push=self._on_push, on_lost=on_lost)

    async def _any(self) -> Channel:
        error: Disconnected | ReplyError = Disconnected("no node of the cluster can be reached", sent=False)
        for address in self._masters:
            try:
                return await self._node(address).get()
            except (Disconnected, ReplyError) as failed:
                error = failed
        raise error

    def _any_host(self) -> str:
        return (self._masters or self.options.hosts)[0][0]

    def _refresh_soon(self) -> None:
        if not self._closed and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.ensure_future(self._read_map())
            self._refreshing.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _refresh(self) -> None:
        """Read the map, together with all who want it now."""
        self._refresh_soon()
        if self._refreshing is not None:
            await asyncio.shield(self._refreshing)

    async def _read_map(self) -> None:
        error: Disconnected | ReplyError = Disconnected("no node of the cluster can be reached", sent=False)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._read_at + _REFRESH_PAUSE - loop.time()))
        self._read_at = loop.time()
        # Connected nodes first: a dead one costs the time to connect in.
        known = dict.fromkeys([*self._masters, *self.options.hosts])
        for address in sorted(known, key=lambda one: one not in self._nodes or self._nodes[one].ready() is None):
            try:
                channel = await self._node(address).get()
                found = await channel.request(pack("CLUSTER", "SLOTS"))
            except (Disconnected, ReplyError) as failed:
                error = failed
                continue
            if found:
                self._take(found, address[0])
                return
            error = ReplyError("CLUSTERDOWN the node serves no slots; has the cluster been created?")
        raise error

    def _take(self, found: list[Any], asked: str) -> None:
        slots: list[Address | None] = [None] * _SLOTS
        masters: dict[Address, None] = {}
        for first, last, master, *_ in found:
            # A node that does not know its own address means the one it was asked by.
            address = ((master[0] or b"").decode().replace("?", "") or asked, int(master[1]))
            masters[address] = None
            slots[first : last + 1] = [address] * (last + 1 - first)
        self._slots, self._masters = slots, list(masters)
        for address in masters:
            self._node(address)
        for address in [one for one in self._nodes if one not in masters]:
            self._nodes.pop(address).close()
            if address == self._subscribed:
                self._subscribed = None
                self._on_lost()
