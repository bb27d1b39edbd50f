"""An HTTP proxy for tests: between a store and its server it throttles, loses requests and answers, and cuts bodies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from loom.testing.servers import free_port

from .testing import AzuriteServer

__all__ = ["Fault", "FaultyProxy"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a request whose first line holds all of ``words``.

    With ``status`` the proxy answers itself, with ``headers``; ``lose_request`` cuts the connection before the server
    has the request, ``lose_answer`` after it has answered; ``body`` passes so many bytes of an answer, and cuts then.
    """

    words: Sequence[str]
    status: int = 0
    headers: dict[str, str] = {}
    lose_request: bool = False
    lose_answer: bool = False
    body: int | None = None


class FaultyProxy:
    """Forwards requests on a port of its own to ``server``. Used as ``async with``. Each fault happens once.

    ``seen`` has the first line of every request. Each request has a connection of its own.
    """

    def __init__(self, server: AzuriteServer, faults: Iterable[Fault] = ()) -> None:
        self._to = server.port
        self._account = server.account
        self.port = free_port()
        self.faults = list(faults)
        self.seen: list[str] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        """The URL of the account's blob service, through the proxy."""
        return f"http://127.0.0.1:{self.port}/{self._account}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.seen.append(first)
        length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        fault = self._fault(first)
        if fault is not None and fault.status:
            said = "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
            writer.write(
                f"HTTP/1.1 {fault.status} Said\r\n{said}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        if fault is not None and fault.lose_request:
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            kept = [line for line in lines if line and not line.lower().startswith("connection:")]
            back.write("\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1") + body)
            await self._answer(there, writer, fault)
        finally:
            back.transport.abort()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        head = await there.readuntil(b"\r\n\r\n")
        if fault is not None and fault.lose_answer:
            await there.read()
            return
        writer.write(head)
        left = None if fault is None else fault.body
        while data := await there.read(2**16):
            if left is not None:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()
            if left == 0:
                # Given time to arrive: aborting a connection throws away what has not been sent.
                await asyncio.sleep(0.1)
                return
        writer.close()
        await writer.wait_closed()

    def _fault(self, first: str) -> Fault | None:
        for fault in self.faults:
            if all(word in first for word in fault.words):
                self.faults.remove(fault)
                return fault
        return None
