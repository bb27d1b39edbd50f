"""Redis: what the adapters of this package use of a server, a Sentinel group or a cluster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from loom.errors import StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL

from .channel import Argument, Channel, pack
from .failures import Disconnected, Meaning, ReplyError, meaning_of, unavailable
from .names import tag
from .options import RedisOptions
from .scripts import Script
from .topology import Standalone, Topology
from .wakeups import Bell, Wakeups

__all__ = ["Redis", "redis_from_url"]

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_HOPS_AT_ONCE = 5


class Redis:
    """A deployment of Redis, shared by the adapters of one URL. ``start`` and ``close`` are counted.

    Commands issued in one moment leave in one write. Those that did not run are tried again for ``retry_for`` seconds
    (loading, demoted, moved, no connection); those that may have run only when the caller says that repeating them is
    harmless, else StoreUnavailableError with ``unknown=True``. A cancelled call leaves the connection usable.

    Replies are bytes, int, float, None, list, and dict for commands such as HGETALL (RESP3).
    """

    def __init__(self, options: RedisOptions | None = None) -> None:
        self.options = options or RedisOptions()
        self._keeps = bool(self.options.wait_replicas or self.options.wait_aof)
        self._users = 0
        self._starting = asyncio.Lock()
        self._wakeups = Wakeups()
        self._topology: Topology | None = None

    async def start(self) -> None:
        """Connect. Raises StoreUnavailableError when the server cannot be reached within ``retry_for`` seconds."""
        async with self._starting:
            if self._users == 0:
                self._topology = self._make_topology()
                self._wakeups.start(self._topology)
                try:
                    await self.call("PING", repeatable=True)
                except BaseException:
                    self._shut()
                    raise
            self._users += 1

    async def close(self) -> None:
        """Leave; the last to leave ends the connections."""
        if self._users > 0:
            self._users -= 1
            if self._users == 0:
                self._shut()

    def key(self, kind: str, name: str, part: str) -> str:
        """The key of one ``part`` of the thing ``name`` of a ``kind``; all parts of a thing lie in one slot."""
        return f"{self.options.namespace}:{kind}:{{{tag(name)}}}:{part}"

    async def call(self, *arguments: Argument, key: str = "", repeatable: bool = False) -> Any:
        """Run one command on the server of ``key`` (any server when empty).

        ``repeatable`` says that running it twice is as good as once: it is then tried again after an unknown outcome.
        Raises StoreUnavailableError.
        """
        return await self._run(pack(*arguments), key.encode(), repeatable)

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], *, repeatable: bool = False
    ) -> Any:
        """Run a script; ``keys`` is not empty and lies in one slot. See ``call``.

        A script that writes is reported when as many replicas and files have it as the URL asks for. When they do not
        have it in time, StoreUnavailableError with ``unknown=True``: it ran, and may yet be lost.
        """
        key = keys[0].encode()
        run = self._run_kept if script.writes and self._keeps else self._run
        try:
            return await run(pack("EVALSHA", script.sha, len(keys), *keys, *arguments), key, repeatable)
        except _ForgottenScript:
            return await run(pack("EVAL", script.text, len(keys), *keys, *arguments), key, repeatable)

    async def call_all(self, *arguments: Argument) -> list[Any]:
        """Run one command on every server that takes writes; for reading and for asking servers about themselves."""
        try:
            channels = await self._opened().channels()
            return list(await asyncio.gather(*(channel.request(pack(*arguments)) for channel in channels)))
        except (Disconnected, ReplyError) as error:
            raise unavailable(error, self.options.where) from error

    @asynccontextmanager
    async def listening(
        self, channels: Iterable[str], on_message: Callable[[bytes], None] | None = None
    ) -> AsyncIterator[Bell]:
        """A bell that rings for what is published on ``channels`` from now on. Raises StoreUnavailableError.

        With ``on_message`` it hands on what was published, and rings only when something may have been missed.
        """
        names, bell = list(channels), Bell(on_message)
        deadline = asyncio.get_running_loop().time() + self.options.retry_for
        pause = _FIRST_PAUSE
        self._opened()
        try:
            while True:
                try:
                    await self._wakeups.listen(bell, names)
                    break
                except (Disconnected, ReplyError, TimeoutError) as error:
                    pause = await self._pause(pause, deadline, error, unknown=False)
            yield bell
        finally:
            self._wakeups.leave(bell, names)

    async def _run(self, packed: bytes, key: bytes, repeatable: bool) -> Any:
        topology = self._opened()
        channel = topology.ready(key)
        try:
            return await (channel or await topology.channel(key)).request(packed)
        except (Disconnected, ReplyError) as error:
            if isinstance(error, ReplyError) and error.code == "NOSCRIPT":
                raise _ForgottenScript from None
            return await self._try_again(packed, key, repeatable, error)

    async def _run_kept(self, packed: bytes, key: bytes, repeatable: bool) -> Any:
        """As ``_run``; reported when the write is where the URL wants it."""
        try:
            return await self._send_kept(await self._opened().channel(key), packed)
        except (Disconnected, ReplyError) as error:
            if isinstance(error, ReplyError) and error.code == "NOSCRIPT":
                raise _ForgottenScript from None
            return await self._try_again(packed, key, repeatable, error, self._send_kept)

    async def _try_again(
        self,
        packed: bytes,
        key: bytes,
        repeatable: bool,
        error: Disconnected | ReplyError,
        send: Callable[[Channel, bytes], Awaitable[Any]] = Channel.request,
    ) -> Any:
        deadline = asyncio.get_running_loop().time() + self.options.retry_for
        pause, unknown, hops = _FIRST_PAUSE, False, 0
        while True:
            meaning = meaning_of(error)
            unknown = unknown or meaning is Meaning.UNKNOWN
            lost = isinstance(error, ReplyError) and error.code in ("MOVED", "ASK") and self.options.mode != "cluster"
            if meaning is Meaning.REFUSED or (meaning is Meaning.UNKNOWN and not repeatable) or lost:
                raise unavailable(error, self.options.where, unknown=unknown) from error
            topology = self._opened()
            try:
                hops += 1
                there = await topology.redirect(error) if hops <= _HOPS_AT_ONCE else None
                if there is not None:
                    channel, before = there
                    if before:
                        channel.request(before)
                    return await send(channel, packed)
                if meaning is not Meaning.TRY_AGAIN:
                    await topology.turn_away(error)
                pause = await self._pause(pause, deadline, error, unknown=unknown)
                hops = 0
                return await send(await self._opened().channel(key), packed)
            except (Disconnected, ReplyError) as later:
                if isinstance(later, ReplyError) and later.code == "NOSCRIPT":
                    raise _ForgottenScript from None
                error = later

    async def _pause(self, pause: float, deadline: float, error: Exception, *, unknown: bool) -> float:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise unavailable(error, self.options.where, unknown=unknown) from error
        await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))
        return min(pause * 2, _LONGEST_PAUSE)

    async def _send_kept(self, channel: Channel, packed: bytes) -> Any:
        """Send a write, and wait until it is where the URL wants it.

        The wait goes over the same connection: on another, perhaps to a new master, ``WAIT`` would speak of other
        writes. Whatever goes wrong with it leaves the outcome unknown, since the write did run.
        """
        reply = await channel.request(packed)
        options, milliseconds = self.options, int(self.options.wait_timeout * 1000)
        wait = (
            pack("WAITAOF", options.wait_aof, options.wait_replicas, milliseconds)
            if options.wait_aof
            else pack("WAIT", options.wait_replicas, milliseconds)
        )
        try:
            found = await asyncio.shield(channel.receipt(wait))
        except (Disconnected, ReplyError) as error:
            raise Disconnected(f"waiting for copies of the write: {error}", sent=True) from error
        files, replicas = found if options.wait_aof else (0, found)
        if files < options.wait_aof or replicas < options.wait_replicas:
            raise StoreUnavailableError(
                f"Redis at {options.where}: the write is not on {options.wait_replicas} replicas "
                f"and {options.wait_aof} synced files after {options.wait_timeout:g} s; it may yet be lost",
                unknown=True,
            )
        return reply

    def _opened(self) -> Topology:
        if self._topology is None:
            raise StoreUnavailableError(f"Redis at {self.options.where}: not started, or closed")
        return self._topology

    def _shut(self) -> None:
        topology, self._topology = self._topology, None
        self._wakeups.close()
        if topology is not None:
            topology.close()

    def _make_topology(self) -> Topology:
        # The other two are imported by those who use them: the cluster's needs the driver's slot hashing.
        if self.options.mode == "sentinel":
            from .sentinel import SentinelTopology

            return SentinelTopology(self.options, self._wakeups.push, self._wakeups.lost)
        if self.options.mode == "cluster":
            from .cluster import ClusterTopology

            return ClusterTopology(self.options, self._wakeups.push, self._wakeups.lost)
        return Standalone(self.options, self._wakeups.push, self._wakeups.lost)


class _ForgottenScript(Exception):
    """The server does not have the script: it was started anew, or its cache was flushed. Nothing ran."""


def redis_from_url(url: LoomURL, context: AdapterContext) -> Redis:
    """The connection of ``url``, shared with the other adapters of the context. Raises ConfigurationError."""
    options = RedisOptions.from_url(url)
    return context.shared(f"redis:{url.raw}", lambda: Redis(options))
