"""One container: the SDK's client, and requests to it that are tried again while that helps."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

from loom.errors import ConfigurationError, StoreUnavailableError

from .failures import Failure, failure_of, unavailable
from .options import AzureOptions

__all__ = ["Budget", "Session", "trust", "unrepeated"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 8.0
_READ_BLOCK = 2**18
_LAST_WORDS = 0.1


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


class Session:
    """A started store's way to its container. Made by ``open``; ``close`` waits for requests under way.

    ``token`` is the identity, None where a key or a SAS signs.
    """

    def __init__(self, options: AzureOptions, credential: AsyncTokenCredential | None) -> None:
        self.options = options
        self._own: DefaultAzureCredential | None = None
        self.token: AsyncTokenCredential | None = credential
        given: Any = credential
        if credential is None and options.sign_in == "key":
            given = AzureNamedKeyCredential(options.account, options.secret)
        elif credential is None and options.sign_in == "sas":
            given = options.secret
        elif credential is None:
            more = {"managed_identity_client_id": options.client_id} if options.client_id else {}
            given = self.token = self._own = DefaultAzureCredential(**more)
        self.transport = AioHttpTransport(
            # As the SDK makes its own, and with the middleware.
            session=aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust(options.ssl_ca_certs)),
                trust_env=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                middlewares=(unrepeated,),
            ),
            connection_timeout=options.connect_timeout,
            read_timeout=options.timeout,
            connection_data_block_size=_READ_BLOCK,
        )
        # retry_total: trying again is ours, because it has to know what a failed try may have done.
        self.service = BlobServiceClient(options.endpoint, credential=given, transport=self.transport, retry_total=0)
        self.container: ContainerClient = self.service.get_container_client(options.container)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def blob(self, encoded: str) -> BlobClient:
        """The SDK's client of one blob; no I/O."""
        return self.container.get_blob_client(encoded)

    def budget(self) -> Budget:
        """What a call may spend on failures."""
        return Budget(
            self.options.retry_for, lambda failure, unknown: unavailable(self.options, failure, unknown=unknown)
        )

    async def run(self, request: Callable[[], Awaitable[T]], budget: Budget | None = None) -> T:
        """Make a request that may be repeated, until it is answered or the budget is spent.

        Raises the SDK's error where the service's answer is final and not about access (404, 409, 412, 416), and
        StoreUnavailableError otherwise.
        """
        budget = budget or self.budget()
        while True:
            try:
                return await self.once(request)
            except AzureError as error:
                failure = failure_of(error)
                if failure.status in (400, 404, 409, 412, 416) and not _gone(failure) and not failure.again:
                    raise
                await budget.another_try(failure, error)

    async def once(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make one request. Raises the SDK's error."""
        self._running += 1
        self._idle.clear()
        try:
            return await request()
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def close(self) -> None:
        """Wait for requests under way, and let go of all connections."""
        await self._idle.wait()
        await self.service.close()
        await self.transport.close()
        if self._own is not None:
            await self._own.close()
        # aiohttp doesn't wait until its connections are closed, and those of TLS have something to say before.
        await asyncio.sleep(_LAST_WORDS if self.options.endpoint.startswith("https") else 0)


def trust(file: str) -> ssl.SSLContext | bool:
    """Whom to trust: the authorities in ``file``, a PEM, or with "" the system's. Raises ConfigurationError."""
    if not file:
        return True
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ssl_ca_certs={file}: no certificates in PEM: {error}") from error


async def unrepeated(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a PUT or a DELETE by itself whose connection was cut: it would not tell."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _CutError(str(error)) from error


class _CutError(aiohttp.ClientConnectionError):
    """The connection was cut after the request had left, or while it did."""


def _gone(failure: Failure) -> bool:
    return failure.code in ("ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "AccountIsDisabled")


def not_started(options: AzureOptions) -> StoreUnavailableError:
    """The error for a store that is used before ``start`` or after ``close``."""
    return StoreUnavailableError(f"Azure blobs at {options.where} are not open; call start() first")
