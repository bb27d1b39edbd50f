"""The plugin: declares the adapters of this package without importing a driver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loom.plugins import AdapterSpec, Durability, Feature, Reach, hookimpl

__all__ = ["BLOBS", "SECRETS", "loom_guard_rules", "loom_register_adapters"]

BLOBS = AdapterSpec(
    port="blobs",
    scheme="azblob",
    target="loom_azure.blobs:AzureBlobStore",
    durability=Durability.REPLICATED,
    reach=Reach.NETWORK,
    distribution="loom-azure",
    summary="a container of Azure Blob Storage; at least three copies of each blob",
)

SECRETS = AdapterSpec(
    port="secrets",
    scheme="keyvault",
    target="loom_azure.vault:AzureKeyVault",
    durability=Durability.REPLICATED,
    reach=Reach.NETWORK,
    features=frozenset({Feature.SOFT_DELETE}),
    distribution="loom-azure",
    summary="an Azure Key Vault, copied within its region and to the paired one",
)


@hookimpl
def loom_register_adapters() -> Iterable[AdapterSpec]:
    """Blobs under ``azblob://``, secrets under ``keyvault://``."""
    return [BLOBS, SECRETS]


@hookimpl
def loom_guard_rules() -> Iterable[Any]:
    """Rules about containers, vaults and credentials; the driver is imported only where a store of ours was opened."""
    from .guard import azure_rules
    from .vault_guard import vault_rules

    return [*azure_rules(), *vault_rules()]
