"""What an error of Azure means, and what repairs it. No text of the service is repeated: it may hold signatures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import aiohttp
import msgspec
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
)

from loom.errors import StoreUnavailableError

from .options import AzureOptions

__all__ = ["Failure", "failure_of", "unavailable"]

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
# With these the service says that it has done nothing; after the others of _AGAIN it may have.
_NOT_DONE = frozenset({429, 503})


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed request.

    ``code`` is the service's (``BlobNotFound``), ``status`` its HTTP status, 0 without an answer. ``again`` says that
    it is worth another try, after ``wait`` seconds where the service named them; ``unknown`` that it may have been
    carried out.
    """

    status: int = 0
    code: str = ""
    again: bool = False
    unknown: bool = False
    wait: float = 0.0
    reason: str = ""


def failure_of(error: AzureError) -> Failure:
    """Classify what the SDK raised for one request."""
    if isinstance(error, HttpResponseError) and error.response is not None:
        status = error.response.status_code or 0
        # Both kinds of the SDK's responses have them; their common type doesn't say so.
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        code = str(headers.get("x-ms-error-code") or getattr(error, "error_code", "") or "")
        code = code.rpartition(".")[2]
        timed_out = code == "OperationTimedOut"
        return Failure(
            status=status,
            code=code,
            again=status in _AGAIN or code == "ContainerBeingDeleted",
            unknown=status in _AGAIN and (timed_out or status not in _NOT_DONE),
            wait=_seconds(headers.get("Retry-After") or headers.get("retry-after") or ""),
        )
    if isinstance(error, ClientAuthenticationError):
        return Failure(code="NoIdentity", reason=str(error).strip().splitlines()[0] if str(error).strip() else "")
    inner = error.inner_exception
    # The SDK says "no request was sent" of every error of aiohttp; only of these it is true.
    unsent = isinstance(error, ServiceRequestTimeoutError) or isinstance(inner, aiohttp.ClientConnectorError)
    final = isinstance(inner, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL)
    network = isinstance(error, ServiceRequestError) or inner is not None
    return Failure(
        code="NoConnection",
        again=network and not final,
        unknown=not unsent,
        reason=_reason(inner or error),
    )


def _reason(error: BaseException) -> str:
    """What went wrong with a connection, without the URL that was asked: that may be signed."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__}: {error.message}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, aiohttp.InvalidURL):
        return type(error).__name__
    return str(error) or type(error).__name__


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0


def unavailable(options: AzureOptions, failure: Failure, *, unknown: bool = False) -> StoreUnavailableError:
    """The error for a request that has failed for good: it names the container, the code and what repairs it."""
    said = f"{failure.code or 'HTTP'}{f' {failure.status}' if failure.status else ''}"
    reason = f": {failure.reason}" if failure.reason else ""
    return StoreUnavailableError(
        f"Azure blobs at {options.where}: {_remedy(options, failure)} ({said}{reason})",
        unknown=unknown,
        account=options.account,
        container=options.container,
        azure_code=failure.code,
    )


def _remedy(options: AzureOptions, failure: Failure) -> str:
    account, container = options.account, options.container
    scope = (
        f"/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Storage/storageAccounts/{account}"
        f"/blobServices/default/containers/{container}"
    )
    role = f"az role assignment create --role 'Storage Blob Data Contributor' --assignee PRINCIPAL --scope {scope}"
    match failure.code:
        case "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled":
            return (
                f"there is no container {container!r}; make it with az storage container create --account-name "
                f"{account} --name {container} --auth-mode login, or add ?create=1"
            )
        case "NoIdentity":
            return (
                "no Azure identity could sign in; run az login, or give this machine a managed identity, and "
                f"then: {role}"
            )
        case "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions":
            if options.sign_in == "sas":
                return f"the SAS does not permit this; {_new_sas(options)}"
            return f"this identity may not do this here; grant it: {role}"
        case "KeyBasedAuthenticationNotPermitted":
            return f"the account takes no keys; leave the key out of the URL, so that an identity signs in, and: {role}"
        case "AuthorizationFailure":
            return (
                f"{_bad_credential(options, role)}; or the account's firewall keeps this machine out: az storage "
                f"account network-rule add --account-name {account} --ip-address ADDRESS"
            )
        case "AccountIsDisabled":
            return "the storage account is disabled; see its subscription"
        case "InvalidAuthenticationInfo" | "NoAuthenticationInformation" if options.sign_in == "identity":
            return (
                f"the identity's token was refused; it must be of the account's tenant (az login --tenant), and: {role}"
            )
    if failure.status in (401, 403):
        return _bad_credential(options, role)
    if failure.status in (429, 503) or failure.code == "ServerBusy":
        return (
            f"it is too busy, and was tried again for retry_for={options.retry_for:g} s; send less at once, or set "
            "?retry_for= higher"
        )
    if failure.code == "NoConnection":
        return "it cannot be reached; see that the account's name, DNS, proxy and network rules are right"
    return "the request failed"


def _bad_credential(options: AzureOptions, role: str) -> str:
    if options.sign_in == "identity":
        return f"this identity is not let in; grant it: {role}"
    if options.sign_in == "key":
        return (
            f"{options.source} is not one of this account's, or this machine's clock is wrong by more than 15 minutes; "
            f"see az storage account keys list --account-name {options.account}, or sign in by identity: {role}"
        )
    ends = options.sas_ends
    if ends is not None and ends < datetime.now(UTC):
        return f"{options.source} ended at {ends:%Y-%m-%d %H:%M} UTC; {_new_sas(options)}"
    return f"{options.source} is not valid, or does not permit this; {_new_sas(options)}"


def _new_sas(options: AzureOptions) -> str:
    return (
        f"make another with az storage container generate-sas --account-name {options.account} --name "
        f"{options.container} --permissions acdlrw --expiry TIME --auth-mode login --as-user"
    )
