"""One connection to one server, shared by everybody: commands of one moment leave together, replies come in order.

A connection from a pool per command, as redis-py lends them, spends a round trip and several system calls on each and
is lost when its task is cancelled; here hundreds of commands share a write and a read, and a cancelled task only
leaves its reply unread. Parsing and packing are hiredis's. RESP3: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from .failures import Disconnected, ReplyError
from .options import RedisOptions

__all__ = ["Argument", "Channel", "dial", "pack"]

Argument = bytes | str | int | float

_MORE = object()


def pack(*arguments: Argument) -> bytes:
    """One command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub knows tuples of one only
    return packed


class Channel(asyncio.Protocol):
    """A connection that is open. Made by ``dial``.

    ``on_push`` gets what the server says unasked (published messages). ``on_lost`` is called once, when the
    connection has ended for whatever reason but ``close``.
    """

    def __init__(self, timeout: float, on_push: Callable[[list[Any]], None], on_lost: Callable[[], None]) -> None:
        self._timeout = timeout
        self._on_push = on_push
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ReplyError, protocolError=ReplyError, notEnoughData=_MORE)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._unsent_replies = 0
        self._flushing = False
        self._writable = True
        self._progress = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._receipt: asyncio.Future[Any] | None = None
        self.reason = ""
        self.greeting: dict[bytes, Any] = {}
        """What the server said of itself when it was greeted: ``version``, ``role``, ``mode``, …"""

    @property
    def open(self) -> bool:
        """Whether commands may be sent."""
        return self._transport is not None and not self._closed

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version, from its greeting."""
        text = self.greeting.get(b"version", b"").decode()
        return tuple(int(part) for part in text.split(".") if part.isdigit())

    @property
    def role(self) -> str:
        """``master``, ``replica`` or, of a sentinel, ``sentinel``: as it was when the connection was made."""
        found: str = self.greeting.get(b"role", b"").decode()
        return "replica" if found == "slave" else found

    def keep_alive(self) -> None:
        """Let the system find out that the other machine is gone, also while there is nothing to send."""
        connection = self._transport.get_extra_info("socket") if self._transport is not None else None
        if connection is None:
            return
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, seconds in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)

    def request(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a command; the future gets its reply, ReplyError or Disconnected."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(Disconnected(self.reason or "the connection is closed", sent=False))
            return future
        if not self._waiting:
            self._progress = self._loop.time()
            if self._watch is None:
                self._watch = self._loop.call_later(self._timeout, self._look)
        self._waiting.append(future)
        self._unsent_replies += 1
        self._put(packed)
        return future

    def receipt(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a ``WAIT`` that is about everything this connection has been answered, shared by all who ask for one in
        this moment: as it holds up what comes behind it, one for each would let a batch go a command at a time.

        Await it shielded.
        """
        if self._receipt is None:
            self._receipt = self.request(packed)
            self._loop.call_soon(self._hand_out_no_more)
        return self._receipt

    def tell(self, packed: bytes) -> None:
        """Send a command whose answer comes as a push: SUBSCRIBE and UNSUBSCRIBE."""
        if not self._closed:
            self._put(packed)

    def close(self) -> None:
        """End the connection; what is under way gets Disconnected."""
        self._end("the connection was closed", tell=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _MORE:
                if isinstance(reply, hiredis.PushNotification):
                    self._on_push(list(reply))
                    continue
                future = waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, ReplyError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (ReplyError, IndexError) as error:
            self._end(f"the server does not speak the protocol: {error}")
        self._progress = self._loop.time()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(f"the connection was lost: {error}" if error else "the server closed the connection")

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._flush()

    def _hand_out_no_more(self) -> None:
        self._receipt = None

    def _put(self, packed: bytes) -> None:
        self._unsent.append(packed)
        if not self._flushing and self._writable:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._unsent and self._writable and self._transport is not None and not self._closed:
            unsent, self._unsent, self._unsent_replies = self._unsent, [], 0
            self._transport.write(b"".join(unsent))

    def _look(self) -> None:
        self._watch = None
        if not self._waiting or self._closed:
            return
        left = self._progress + self._timeout - self._loop.time()
        if left <= 0:
            self._end(f"no answer came in {self._timeout:g} s")
        else:
            self._watch = self._loop.call_later(left, self._look)

    def _end(self, reason: str, *, tell: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        self.reason = reason
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        sent = len(self._waiting) - self._unsent_replies
        for n, future in enumerate(self._waiting):
            if not future.done():
                future.set_exception(Disconnected(reason, sent=n < sent))
                future.exception()  # a waiter that was cancelled leaves nobody to look at it
        self._waiting.clear()
        self._unsent.clear()
        if tell:
            self._on_lost()


async def dial(
    options: RedisOptions,
    host: str,
    port: int,
    *,
    on_push: Callable[[list[Any]], None],
    on_lost: Callable[[], None],
    credentials: tuple[str, str] | None = None,
    db: int = 0,
) -> Channel:
    """Connect, say who one is, and choose the database. Raises Disconnected or ReplyError.

    ``credentials`` are a user name and a password, the options' own when None.
    """
    loop = asyncio.get_running_loop()
    channel = Channel(options.timeout, on_push, on_lost)
    try:
        async with asyncio.timeout(options.connect_timeout):
            if options.path:
                await loop.create_unix_connection(lambda: channel, options.path)
            else:
                context = _tls(options) if options.tls else None
                await loop.create_connection(lambda: channel, host, port, ssl=context)
                channel.keep_alive()
            user, password = credentials or (options.username, options.password)
            login: list[Argument] = ["AUTH", user or "default", password] if password else []
            channel.greeting = await channel.request(pack("HELLO", 3, *login, "SETNAME", "loom"))
            if db:
                await channel.request(pack("SELECT", db))
        _check_version(options, channel)
    except TimeoutError:
        channel.close()
        raise Disconnected(f"it did not accept a connection in {options.connect_timeout:g} s", sent=False) from None
    except Disconnected as error:
        channel.close()
        raise Disconnected(str(error), sent=False, final=error.final) from None
    except ReplyError as error:
        channel.close()
        if error.code == "ERR" and ("unknown command" in str(error) or "NOPROTO" in str(error)):
            raise Disconnected(
                "it does not know HELLO 3; Loom needs Redis 7.0 or newer", sent=False, final=True
            ) from None
        raise
    except OSError as error:
        channel.close()
        final = isinstance(error, ssl.SSLCertVerificationError)
        raise Disconnected(f"no connection: {error}", sent=False, final=final) from error
    except BaseException:
        channel.close()
        raise
    return channel


def _check_version(options: RedisOptions, channel: Channel) -> None:
    if options.wait_aof and (version := channel.version) < (7, 2):
        shown = ".".join(map(str, version))
        raise Disconnected(
            f"wait_aof needs Redis 7.2 or newer (WAITAOF), this is {shown}; set appendfsync always, or wait_replicas",
            sent=False,
            final=True,
        )


def _tls(options: RedisOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ssl_ca_certs or None)
        context.check_hostname = options.ssl_check_hostname
        if options.ssl_certfile:
            context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile or None)
    except OSError as error:
        files = [file for file in (options.ssl_ca_certs, options.ssl_certfile, options.ssl_keyfile) if file]
        raise Disconnected(f"{', '.join(files)}: cannot be read as PEM: {error}", sent=False, final=True) from error
    return context
