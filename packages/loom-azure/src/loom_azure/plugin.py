"""The plugin: declares the adapters of this package without importing a driver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loom.plugins import AdapterSpec, Durability, Reach, hookimpl

__all__ = ["BLOBS", "loom_guard_rules", "loom_register_adapters"]

BLOBS = AdapterSpec(
    port="blobs",
    scheme="azblob",
    target="loom_azure.blobs:AzureBlobStore",
    durability=Durability.REPLICATED,
    reach=Reach.NETWORK,
    distribution="loom-azure",
    summary="a container of Azure Blob Storage; at least three copies of each blob",
)


@hookimpl
def loom_register_adapters() -> Iterable[AdapterSpec]:
    """Blobs under ``azblob://``."""
    return [BLOBS]


@hookimpl
def loom_guard_rules() -> Iterable[Any]:
    """Rules about containers and credentials; the driver is imported only where a store of ours was opened."""
    from .guard import azure_rules

    return azure_rules()
