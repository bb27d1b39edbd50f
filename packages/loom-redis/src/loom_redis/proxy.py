"""A TCP proxy for tests: between a client and its server, it loses replies, delays them and cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from loom.testing.servers import free_port

__all__ = ["LossyProxy"]


class LossyProxy:
    """Forwards connections on a port of its own to ``port`` of 127.0.0.1. Used as ``async with``.

    ``lose_reply_to(word)`` arms it: the server gets and runs the next request that holds ``word``, and the reply, once
    its first byte has come back, is thrown away and the connection cut. All replies come ``delay`` seconds late.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self.lost = 0
        self.delay = 0.0
        self._word = b""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``, through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def lose_reply_to(self, word: bytes) -> None:
        """Lose the reply to the next request that holds ``word``."""
        self._word = word

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        armed = asyncio.Event()
        pipes = [
            asyncio.ensure_future(self._requests(reader, back, armed)),
            asyncio.ensure_future(self._replies(there, writer, armed)),
        ]
        self._writers |= {writer, back}
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in pipes:
            pipe.cancel()
        for end in (writer, back):
            end.transport.abort()
            self._writers.discard(end)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self._word and self._word in data:
                    self._word = b""
                    armed.set()
                writer.write(data)
                await writer.drain()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, armed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if armed.is_set():
                    self.lost += 1
                    return
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
