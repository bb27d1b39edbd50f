"""One vault: the SDK's client, and requests to it that are tried again while that helps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.keyvault.secrets.aio import SecretClient

from loom.errors import StoreUnavailableError

from .connection import Budget, Connection
from .failures import Failure
from .vault_failures import DELETED, DISABLED, vault_failure, vault_unavailable
from .vault_options import VaultOptions

__all__ = ["Refused", "VaultSession"]

T = TypeVar("T")


class Refused(Exception):
    """The vault's answer is final and about the secret itself: it is missing, disabled or deleted.

    ``unknown`` says that an earlier try of the same request may have been carried out.
    """

    def __init__(self, failure: Failure, unknown: bool) -> None:
        super().__init__(failure.code)
        self.missing = failure.status == 404
        self.disabled = failure.code == DISABLED
        self.deleted = failure.code == DELETED
        self.unknown = unknown


class VaultSession:
    """A started store's way to its vault. ``close`` waits for requests under way."""

    def __init__(self, options: VaultOptions, credential: AsyncTokenCredential | None) -> None:
        self.options = options
        self._connection = Connection(options)
        # The SDK sees that a token goes to the domain that asked for it; on this machine there is no such domain.
        # retry_total: trying again is ours, because it has to know what a failed try may have done.
        self.client = SecretClient(
            options.endpoint,
            self._connection.identity() if credential is None else credential,
            transport=self._connection.transport,
            retry_total=0,
            verify_challenge_resource=not options.local,
        )

    async def run(self, doing: str, name: str, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request until it is answered or the budget is spent. ``doing`` and ``name`` are for the errors.

        Raises Refused where the answer is about the secret itself, and StoreUnavailableError otherwise.
        """
        return await self._connection.under_way(lambda: self._answered(doing, name, request))

    async def _answered(self, doing: str, name: str, request: Callable[[], Awaitable[T]]) -> T:
        budget = Budget(
            self.options.retry_for,
            lambda failure, unknown: vault_unavailable(self.options, doing, name, failure, unknown=unknown),
        )
        while True:
            try:
                return await request()
            except AzureError as error:
                failure = vault_failure(error)
                about_it = failure.status == 404 or failure.code in (DISABLED, DELETED)
                if isinstance(error, HttpResponseError) and about_it:
                    # Not chained: a response holds the request, and that the value that was to be set.
                    raise Refused(failure, budget.unknown) from None
                try:
                    await budget.another_try(failure, error)
                except StoreUnavailableError as told:
                    raise told from None

    async def close(self) -> None:
        """Wait for requests under way, and let go of all connections."""
        await self._connection.close(self.client)

    async def first(self) -> Any:
        """The properties of a secret that this identity sees; None where there is none."""

        async def look() -> Any:
            async for found in self.properties():
                return found
            return None

        return await self.run("list", "", look)

    def properties(self, *, versions_of: str | None = None, deleted: bool = False) -> Any:
        """The SDK's pages of properties: of all secrets, of the versions of one, or of deleted secrets."""
        if versions_of is not None:
            return self.client.list_properties_of_secret_versions(versions_of)
        return self.client.list_deleted_secrets() if deleted else self.client.list_properties_of_secrets()
