"""What a failed request means: it did not run, it may have run, or it can never run; and what repairs it."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosClientTimeoutError, CosmosHttpResponseError

from loom.errors import StoreUnavailableError

from .options import CosmosOptions

__all__ = ["FAILURES", "Meaning", "Refused", "meaning_of", "retry_after", "status_of", "unavailable"]

FAILURES = (AzureError, OSError, asyncio.TimeoutError)
"""What the driver raises. Anything else is a fault of ours and passes."""


class Refused(Exception):
    """A condition of one operation does not hold: 404 (nothing is there), 409 (something is), 412 (another ETag).

    ``index`` is the operation's place in its batch. Nothing of the batch was done.
    """

    def __init__(self, status: int, index: int, cause: BaseException) -> None:
        super().__init__(f"operation {index} was refused with {status}")
        self.cause = cause
        self.status = status
        self.index = index


class Meaning(enum.Enum):
    """What to do about a failure."""

    TRY_AGAIN = "it did not run, and may later"
    UNKNOWN = "it may have run"
    REFUSED = "it did not run, and will not while things stay as they are"


_AGAIN = frozenset({429, 449})
_UNCERTAIN = frozenset({408, 410, 500, 502, 503, 504})


def status_of(error: BaseException) -> int:
    """The HTTP status, 0 where there was no answer."""
    if isinstance(error, CosmosHttpResponseError | CosmosBatchOperationError):
        return int(error.status_code or 0)
    return 0


def meaning_of(error: BaseException) -> Meaning:
    """Classify what the driver raised for one request."""
    status = status_of(error)
    if status in _AGAIN:
        return Meaning.TRY_AGAIN
    if status:
        return Meaning.UNKNOWN if status in _UNCERTAIN else Meaning.REFUSED
    if isinstance(error, ServiceRequestError):
        # Raised before anything was sent, with one exception: a connection that broke while it was sent.
        return Meaning.UNKNOWN if _was_connected(error) else Meaning.TRY_AGAIN
    if isinstance(error, ClientAuthenticationError):
        return Meaning.REFUSED
    if isinstance(error, ServiceResponseError | CosmosClientTimeoutError | OSError | asyncio.TimeoutError):
        return Meaning.UNKNOWN
    return Meaning.UNKNOWN


def retry_after(error: BaseException) -> float | None:
    """The seconds after which the account wants to be asked again, where it says so."""
    headers: Any = getattr(error, "headers", None) or {}
    text = headers.get("x-ms-retry-after-ms")
    try:
        return None if text is None else float(text) / 1000
    except ValueError:
        return None


def unavailable(
    error: BaseException, options: CosmosOptions, tried: str, *, unknown: bool = False
) -> StoreUnavailableError:
    """The error to raise for a request that has failed for good. ``tried`` says what it was; no key is shown."""
    status, sub = status_of(error), getattr(error, "sub_status", None)
    said = f"status {status}" + (f".{sub}" if sub else "") if status else type(error).__name__
    remedy = _remedy(error, status, options)
    return StoreUnavailableError(
        f"Cosmos DB at {options.where}: {tried} failed ({said}): {remedy}",
        unknown=unknown,
        account=options.account,
        database=options.database,
        status=status,
    )


def _remedy(error: BaseException, status: int, options: CosmosOptions) -> str:
    account = options.account
    if status == 401 and not options.key:
        return (
            "the identity's token was refused: it has ended, is of another tenant than the account's, or this "
            "machine's clock is wrong; run `az login --tenant TENANT`, see that the clock is synchronised, and give "
            f"the identity the data role: {_role(account)}"
        )
    if status == 401:
        return (
            "the account does not know this key, or this machine's clock is wrong by more than 15 minutes; "
            f"see `az cosmosdb keys list --name {account} --resource-group GROUP`"
        )
    if status == 403:
        return (
            "the account lets nobody in from here, or this identity may not do it; give it the data role: "
            f"{_role(account)}, or open the account's firewall for this address"
        )
    if status == 404:
        return (
            f"database {options.database!r} or a container in it is gone; stop the hosts and restore it, or make "
            "an empty one with `loom cosmos init`"
        )
    if status == 429:
        return (
            f"it was throttled for {options.retry_for:g} s: the request units are used up; raise them (`az cosmosdb "
            f"sql database throughput update --account-name {account} --resource-group GROUP "
            f"--name {options.database} --max-throughput RU`), or wait longer with ?retry_for="
        )
    if status == 413:
        return "the request is larger than the 2 MB that Cosmos DB takes"
    if status in _UNCERTAIN:
        return "the account is not available at the moment; see its Service Health in the portal"
    if isinstance(error, ClientAuthenticationError):
        return (
            "no credential was found or accepted; run `az login`, or give the host a managed identity and the data "
            f"role: {_role(account)}"
        )
    if status:
        return _first_line(error)
    return f"it cannot be reached: {_first_line(error)}; is the name right, and does a firewall let {account} through?"


def _role(account: str) -> str:
    return (
        f"`az cosmosdb sql role assignment create --account-name {account} --resource-group GROUP --scope / "
        "--principal-id ID --role-definition-name 'Cosmos DB Built-in Data Contributor'`"
    )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _was_connected(error: ServiceRequestError) -> bool:
    from aiohttp import ClientConnectorError

    inner = getattr(error, "inner_exception", None)
    return inner is not None and not isinstance(inner, ClientConnectorError)
