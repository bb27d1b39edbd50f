"""One container: the SDK's client, and requests to it that are tried again while that helps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from azure.core.credentials import AzureNamedKeyCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

from loom.errors import StoreUnavailableError

from .connection import Budget, Connection
from .failures import Failure, failure_of, unavailable
from .options import AzureOptions

__all__ = ["Session", "not_started"]

T = TypeVar("T")

_READ_BLOCK = 2**18


class Session:
    """A started store's way to its container. Made by ``open``; ``close`` waits for requests under way.

    ``token`` is the identity, None where a key or a SAS signs.
    """

    def __init__(self, options: AzureOptions, credential: AsyncTokenCredential | None) -> None:
        self.options = options
        self.token: AsyncTokenCredential | None = credential
        self._connection = Connection(options, connection_data_block_size=_READ_BLOCK)
        self.transport = self._connection.transport
        given: Any = credential
        if credential is None and options.sign_in == "key":
            given = AzureNamedKeyCredential(options.account, options.secret)
        elif credential is None and options.sign_in == "sas":
            given = options.secret
        elif credential is None:
            given = self.token = self._connection.identity()
        # retry_total: trying again is ours, because it has to know what a failed try may have done.
        self.service = BlobServiceClient(options.endpoint, credential=given, transport=self.transport, retry_total=0)
        self.container: ContainerClient = self.service.get_container_client(options.container)

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
        return await self._connection.under_way(request)

    async def close(self) -> None:
        """Wait for requests under way, and let go of all connections."""
        await self._connection.close(self.service)


def _gone(failure: Failure) -> bool:
    return failure.code in ("ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "AccountIsDisabled")


def not_started(options: AzureOptions) -> StoreUnavailableError:
    """The error for a store that is used before ``start`` or after ``close``."""
    return StoreUnavailableError(f"Azure blobs at {options.where} are not open; call start() first")
