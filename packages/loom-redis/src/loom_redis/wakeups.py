"""Wakeups: waiters are rung when something is published for them. Nobody polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from .channel import Channel, pack
from .failures import Disconnected, ReplyError
from .topology import Topology

__all__ = ["Bell", "Wakeups"]

_IDLE_CHANNELS = 4096


class Bell:
    """Rings when one of its channels was published to, or when a message may have been missed.

    Listen first, look for what there is to do then, and wait last: what happens between the look and the wait rings.
    """

    def __init__(self, on_message: Callable[[bytes], None] | None = None) -> None:
        """``on_message`` is given what was published, and then only what may have been missed rings."""
        self._event = asyncio.Event()
        self._on_message = on_message

    def hear(self, said: bytes) -> None:
        """Take what was published."""
        if self._on_message is None:
            self._event.set()
        else:
            self._on_message(said)

    def ring(self) -> None:
        """Wake whoever waits."""
        self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it rings, for ``seconds`` at most; say whether it rang, and be ready to ring again."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Wakeups:
    """Subscriptions over a topology. They outlive its connections: a new one subscribes again and rings every bell."""

    def __init__(self) -> None:
        self._topology: Topology | None = None
        self._channel: Channel | None = None
        self._bells: dict[bytes, set[Bell]] = {}
        self._confirmed: set[bytes] = set()
        self._confirming: dict[bytes, asyncio.Future[None]] = {}
        self._resubscribing: asyncio.Task[None] | None = None

    def start(self, topology: Topology) -> None:
        """Subscribe through ``topology`` from now on."""
        self._topology = topology

    def close(self) -> None:
        """Forget every subscription."""
        if self._resubscribing is not None:
            self._resubscribing.cancel()
            self._resubscribing = None
        for future in self._confirming.values():
            future.cancel()
        self._confirming.clear()
        self._confirmed.clear()
        self._bells.clear()

    async def listen(self, bell: Bell, channels: Iterable[str]) -> None:
        """Let ``bell`` ring for ``channels``; when it returns, nothing published later is missed.

        Raises Disconnected or ReplyError when the server cannot be asked.
        """
        names = [name.encode() for name in channels]
        for name in names:
            self._bells.setdefault(name, set()).add(bell)
        await self._subscribe([name for name in names if name not in self._confirmed])

    def leave(self, bell: Bell, channels: Iterable[str]) -> None:
        """Ring ``bell`` no more. Subscriptions without bells are kept for the next to listen, up to a bound."""
        for channel in channels:
            name = channel.encode()
            bells = self._bells.get(name)
            if bells is not None:
                bells.discard(bell)
        if len(self._bells) > _IDLE_CHANNELS:
            self._drop_idle()

    def push(self, message: list[Any]) -> None:
        """Take what the server said unasked."""
        kind = message[0]
        if kind == b"message":
            for bell in self._bells.get(message[1], ()):
                bell.hear(message[2])
        elif kind == b"subscribe":
            if message[1] in self._bells:
                self._confirmed.add(message[1])
            future = self._confirming.pop(message[1], None)
            if future is not None and not future.done():
                future.set_result(None)

    def lost(self) -> None:
        """The connection is gone: subscribe again as soon as there is one, and ring every bell then."""
        self._confirmed.clear()
        for future in self._confirming.values():
            if not future.done():
                future.set_exception(Disconnected("the connection was lost", sent=False))
                future.exception()
        self._confirming.clear()
        if any(self._bells.values()) and (self._resubscribing is None or self._resubscribing.done()):
            self._resubscribing = asyncio.ensure_future(self._resubscribe())

    async def _resubscribe(self) -> None:
        pause = 0.02
        while True:
            wanted = [name for name, bells in self._bells.items() if bells and name not in self._confirmed]
            try:
                await self._subscribe(wanted)
            except (Disconnected, ReplyError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
                continue
            break
        for bells in list(self._bells.values()):
            for bell in bells:
                bell.ring()

    async def _subscribe(self, names: list[bytes]) -> None:
        if not names or self._topology is None:
            return
        channel = self._channel = await self._topology.subscriber()
        loop = asyncio.get_running_loop()
        asked = [name for name in names if name not in self._confirming]
        for name in asked:
            self._confirming[name] = loop.create_future()
        futures = [self._confirming[name] for name in names if name in self._confirming]
        if asked:
            channel.tell(pack("SUBSCRIBE", *asked))
        try:
            async with asyncio.timeout(self._topology.options.timeout):
                await asyncio.gather(*(asyncio.shield(future) for future in futures))
        except TimeoutError:
            # Whoever tries again is to ask again, not to wait for an answer that was lost.
            for name in names:
                self._confirming.pop(name, None)
            raise

    def _drop_idle(self) -> None:
        idle = [name for name, bells in self._bells.items() if not bells]
        for name in idle:
            del self._bells[name]
            self._confirmed.discard(name)
        if self._channel is not None and idle:
            self._channel.tell(pack("UNSUBSCRIBE", *idle))
