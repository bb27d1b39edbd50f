"""What an error of Key Vault means, and what repairs it. No text of the service is repeated."""

from __future__ import annotations

from typing import Any

import msgspec
from azure.core.exceptions import AzureError, HttpResponseError

from loom.errors import StoreUnavailableError

from .failures import Failure, failure_of
from .vault_options import VaultOptions

__all__ = ["DELETED", "DISABLED", "vault_failure", "vault_unavailable"]

DISABLED = "SecretDisabled"
DELETED = "ObjectIsDeletedButRecoverable"

# A name is taken by what is going on with it; it ends by itself within seconds.
_BUSY = frozenset({"ObjectIsBeingDeleted", "ObjectIsBeingRecovered", "ObjectIsBeingPurged"})

_ROLES = {
    "get": "Key Vault Secrets User",
    "list": "Key Vault Reader",
    "set": "Key Vault Secrets Officer",
    "update": "Key Vault Secrets Officer",
    "delete": "Key Vault Secrets Officer",
    "recover": "Key Vault Secrets Officer",
    "purge": "Key Vault Administrator",
}


def vault_failure(error: AzureError) -> Failure:
    """Classify what the SDK raised for one request. ``code`` is the innermost that the service gave."""
    failure = failure_of(error)
    if not isinstance(error, HttpResponseError) or failure.status == 0:
        return failure
    code = _innermost(error) or failure.code
    return msgspec.structs.replace(failure, code=code, again=failure.again or code in _BUSY)


def _innermost(error: HttpResponseError) -> str:
    told: Any = error.error
    code = str(getattr(told, "code", "") or "")
    inner = getattr(told, "innererror", None)
    while isinstance(inner, dict):
        code, inner = str(inner.get("code") or code), inner.get("innererror")
    return code if code.isalnum() else ""


def vault_unavailable(
    options: VaultOptions, doing: str, name: str, failure: Failure, *, unknown: bool
) -> StoreUnavailableError:
    """The error for a request that has failed for good: it names the vault, what was tried and what repairs it."""
    said = f"{failure.code or 'HTTP'}{f' {failure.status}' if failure.status else ''}"
    reason = f": {failure.reason}" if failure.reason else ""
    what = f"{doing} secret {name!r}" if name else f"{doing} secrets"
    return StoreUnavailableError(
        f"Key Vault {options.vault} ({options.endpoint}), {what}: {_remedy(options, doing, failure)} ({said}{reason})",
        unknown=unknown,
        vault=options.vault,
        secret=name,
        azure_code=failure.code,
    )


def _remedy(options: VaultOptions, doing: str, failure: Failure) -> str:
    vault = options.vault
    role = (
        f"az role assignment create --role '{_ROLES[doing]}' --assignee PRINCIPAL --scope /subscriptions/SUBSCRIPTION/"
        f"resourceGroups/GROUP/providers/Microsoft.KeyVault/vaults/{vault}"
    )
    match failure.code:
        case "NoIdentity":
            return (
                f"no Azure identity could sign in; run az login, or give this machine a managed identity, and: {role}"
            )
        case "NoConnection":
            return (
                "it cannot be reached; see that the vault exists (az keyvault show --name "
                f"{vault}) and that DNS, proxy and network rules are right"
            )
        case "ForbiddenByFirewall" | "ForbiddenByConnection":
            return (
                f"its firewall keeps this machine out: az keyvault network-rule add --name {vault} --ip-address ADDRESS"
            )
        case "ForbiddenByPolicy" | "AccessDenied":
            return (
                f"this identity may not do this here: az keyvault set-policy --name {vault} --object-id PRINCIPAL "
                f"--secret-permissions {doing}, or, where roles decide: {role}"
            )
    if failure.status == 401:
        return f"the identity's token was refused; it must be of the vault's tenant (az login --tenant), and: {role}"
    if failure.status == 403:
        return f"this identity may not do this here; grant it: {role}"
    if failure.status in (429, 503):
        return (
            f"it is too busy, and was tried again for retry_for={options.retry_for:g} s; a vault takes 4000 requests "
            "in 10 seconds, so keep what is read often in a SecretsClient, or set ?retry_for= higher"
        )
    if failure.code in _BUSY:
        return "an earlier deletion, recovery or purge of it is still under way; try again in a minute"
    return "the request failed"
