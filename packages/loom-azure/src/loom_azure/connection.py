"""What every store's way to Azure is made of: connections, an identity, and a budget for failures."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import DefaultAzureCredential

from loom.errors import ConfigurationError, StoreUnavailableError

from .failures import Failure

__all__ = ["Budget", "Connection"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 8.0
_LAST_WORDS = 0.1


class ConnectionOptions(Protocol):
    """What a URL says of connections."""

    @property
    def client_id(self) -> str: ...
    @property
    def connect_timeout(self) -> float: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def ssl_ca_certs(self) -> str: ...
    @property
    def timeout(self) -> float: ...


class Connection:
    """The connections of one store, and the identity that it signs in with. ``close`` waits for work under way."""

    def __init__(self, options: ConnectionOptions, **transport: Any) -> None:
        """``transport`` are more settings of the SDK's. Raises ConfigurationError for a file without certificates."""
        self._options = options
        self._own: DefaultAzureCredential | None = None
        self.transport = AioHttpTransport(
            # As the SDK makes its own, and with the middleware.
            session=aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_trust(options.ssl_ca_certs)),
                trust_env=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                middlewares=(_unrepeated,),
            ),
            connection_timeout=options.connect_timeout,
            read_timeout=options.timeout,
            **transport,
        )
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def identity(self) -> DefaultAzureCredential:
        """The identity of this machine, or the one that ``client_id`` names; ``close`` lets go of it."""
        more = {"managed_identity_client_id": self._options.client_id} if self._options.client_id else {}
        self._own = DefaultAzureCredential(**more)
        return self._own

    async def under_way(self, work: Callable[[], Awaitable[T]]) -> T:
        """Carry out work that ``close`` waits for."""
        self._running += 1
        self._idle.clear()
        try:
            return await work()
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def close(self, client: Any) -> None:
        """Wait for work under way, and let go of the SDK's ``client`` and of all connections."""
        await self._idle.wait()
        await client.close()
        await self.transport.close()
        if self._own is not None:
            await self._own.close()
        # aiohttp doesn't wait until its connections are closed, and those of TLS have something to say before.
        await asyncio.sleep(_LAST_WORDS if self._options.endpoint.startswith("https") else 0)


class Budget:
    """How long failures of one call are met with another try: ``retry_for`` seconds of failing in all.

    ``unknown`` becomes True, and stays so, when a failed try may have been carried out. ``give_up`` makes the error.
    """

    def __init__(self, retry_for: float, give_up: Callable[[Failure, bool], StoreUnavailableError]) -> None:
        self._retry_for = retry_for
        self._give_up = give_up
        self._until: float | None = None
        self._pause = _FIRST_PAUSE
        self.unknown = False

    async def another_try(self, failure: Failure, error: BaseException) -> None:
        """Wait before another try. Raises StoreUnavailableError when none helps, or the time is up."""
        self.unknown = self.unknown or failure.unknown
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._retry_for
        # Spread over the upper half, so that clients that were throttled together don't come back together.
        pause = max(failure.wait, self._pause * random.uniform(0.5, 1.0))
        if not failure.again or now + pause > self._until:
            # Not chained to what was said of a credential or of a connection: that may repeat signatures, and URLs.
            cause = None if failure.status in (0, 401, 403) else error
            raise self._give_up(failure, self.unknown) from cause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)

    def progress(self) -> None:
        """A try got somewhere: the next failure begins a new budget."""
        self._until, self._pause = None, _FIRST_PAUSE


def _trust(file: str) -> ssl.SSLContext | bool:
    """Whom to trust: the authorities in ``file``, a PEM, or with "" the system's. Raises ConfigurationError."""
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ssl_ca_certs={file}: no certificates in PEM: {error}") from error


async def _unrepeated(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a PUT or a DELETE by itself whose connection was cut: it would not tell."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _CutError(str(error)) from error


class _CutError(aiohttp.ClientConnectionError):
    """The connection was cut after the request had left, or while it did."""
