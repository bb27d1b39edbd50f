"""The guard's rules about containers and credentials. Who has no Azure needs no driver to run them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from loom.errors import ConfigurationError
from loom.guard import Finding, GuardConfig, GuardRule, PortConfig, Severity

from .options import AzureOptions

if TYPE_CHECKING:
    from .blobs import AzureBlobStore

__all__ = ["azure_rules"]

_SOON = timedelta(days=7)


class AzureRule(GuardRule):
    """A rule about the blobs of a configuration, where they lie on Azure."""

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        port = config.ports.get("blobs")
        if port is None:
            return []
        adapter: Any = config.adapters.get("blobs")
        options = getattr(adapter, "options", None)
        if isinstance(options, AzureOptions):
            reason = await self.judge(options, adapter)
        else:
            options = _options_of(port, config)
            reason = None if options is None else await self.judge(options, None)
        if reason is None:
            return []
        severity: Severity = "refuse" if self.severity == "refuse" else "warn"
        return [self.finding(port.port, severity, f"{port.shown}: {reason}")]

    @abstractmethod
    async def judge(self, options: AzureOptions, store: AzureBlobStore | None) -> str | None:
        """What speaks against these blobs, or None; ``store`` is None when they were not opened."""


class PublicRule(AzureRule):
    """Whether anybody may read the container. Looks only at what was opened."""

    code = "azblob-public"
    severity = "refuse"
    summary = "the container lets anybody read its blobs"
    remedy = (
        "az storage container set-permission --name CONTAINER --account-name ACCOUNT --public-access off, and for the "
        "whole account az storage account update --name ACCOUNT --allow-blob-public-access false"
    )

    async def judge(self, options: AzureOptions, store: AzureBlobStore | None) -> str | None:
        access = None if store is None else await store.public_access()
        return f"public access is {access!r}: anybody may read its blobs, without a credential" if access else None


class KeyRule(AzureRule):
    """Whether one key opens the whole account."""

    code = "azblob-shared-key"
    severity = "warn"
    summary = "the store signs in by an account key, which opens the whole account to whoever learns it"
    remedy = (
        "leave the key out, so that a managed identity signs in; give it the role Storage Blob Data Contributor on the "
        "container, and then az storage account update --name ACCOUNT --allow-shared-key-access false"
    )

    async def judge(self, options: AzureOptions, store: AzureBlobStore | None) -> str | None:
        if options.sign_in != "key":
            return None
        return f"it signs in by {options.source}, which opens all of {options.account!r} and never ends"


class SoftDeleteRule(AzureRule):
    """Whether a mistake can be undone. Looks only at what was opened, and where the credential may see it."""

    code = "azblob-soft-delete"
    severity = "warn"
    summary = "the account does not keep blobs that were deleted or overwritten"
    remedy = (
        "az storage account blob-service-properties update --account-name ACCOUNT --resource-group GROUP "
        "--enable-delete-retention true --delete-retention-days 7"
    )

    async def judge(self, options: AzureOptions, store: AzureBlobStore | None) -> str | None:
        days = None if store is None else await store.soft_delete()
        return "soft delete is off: a blob that was deleted or overwritten by mistake is gone" if days == 0 else None


class SasRule(AzureRule):
    """Whether access ends soon."""

    code = "azblob-sas"
    severity = "warn"
    summary = "the shared access signature that the store signs in by has ended, or ends within 7 days"
    remedy = "make another SAS, or sign in by a managed identity, which needs none"

    async def judge(self, options: AzureOptions, store: AzureBlobStore | None) -> str | None:
        ends = options.sas_ends
        if ends is None or ends - datetime.now(UTC) > _SOON:
            return None
        return f"its SAS ends at {ends:%Y-%m-%d %H:%M} UTC"


class ClearTextRule(AzureRule):
    """Whether others on the network can read along. The runtime's own rule sees an endpoint in the URL only."""

    code = "azblob-clear-text"
    severity = "warn"
    summary = "an http endpoint, from a connection string, leaves the machine"
    remedy = "use https: BlobEndpoint=https://… in the connection string"

    async def judge(self, options: AzureOptions, store: AzureBlobStore | None) -> str | None:
        return f"{options.endpoint} leaves this machine in plain text" if options.clear_text else None


def _options_of(port: PortConfig, config: GuardConfig) -> AzureOptions | None:
    """What the URL says, where nothing was opened; a URL that says nothing sensible is told of by opening it."""
    if port.url is None or port.url.scheme != "azblob":
        return None
    try:
        return AzureOptions.from_url(port.url, config.environ)
    except ConfigurationError:
        return None


def azure_rules() -> list[GuardRule]:
    """All rules, in the order in which they are told."""
    return [PublicRule(), KeyRule(), SoftDeleteRule(), SasRule(), ClearTextRule()]
