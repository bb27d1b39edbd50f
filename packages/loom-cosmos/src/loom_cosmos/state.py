"""Actor state in Cosmos DB."""

from __future__ import annotations

from typing import Self

from loom.adapters.derived.state import DocumentStateStore
from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL

from .adapter import CosmosFacts
from .client import Cosmos, cosmos_from_url
from .documents import CosmosDocumentStore

__all__ = ["CosmosStateStore"]


class CosmosStateStore(CosmosFacts, DocumentStateStore):
    """A StateStore in Cosmos DB."""

    def __init__(self, cosmos: Cosmos, *, clock: Clock | None = None) -> None:
        self._cosmos = cosmos
        super().__init__(CosmosDocumentStore(cosmos, clock=clock), clock=clock, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``cosmos://ACCOUNT.documents.azure.com/DATABASE``; see ``CosmosOptions``."""
        return cls(cosmos_from_url(url, context), clock=context.clock)
