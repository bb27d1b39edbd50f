"""Loom on Azure Cosmos DB. The adapters are chosen by URL (``cosmos://account.documents.azure.com/db``)."""

from __future__ import annotations

from .__about__ import __version__

__all__ = ["__version__"]
