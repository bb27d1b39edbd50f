"""The directory of active actors in Cosmos DB."""

from __future__ import annotations

from typing import Self

from loom.adapters.derived.registry import DocumentActorRegistry
from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL

from .adapter import CosmosFacts
from .client import Cosmos, cosmos_from_url
from .documents import CosmosDocumentStore

__all__ = ["CosmosActorRegistry"]


class CosmosActorRegistry(CosmosFacts, DocumentActorRegistry):
    """An ActorRegistry in Cosmos DB. ``ttl`` is in seconds."""

    def __init__(self, cosmos: Cosmos, *, clock: Clock | None = None, ttl: float = 300.0) -> None:
        self._cosmos = cosmos
        super().__init__(CosmosDocumentStore(cosmos, clock=clock), clock=clock, ttl=ttl, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``cosmos://ACCOUNT.documents.azure.com/DATABASE``; see ``CosmosOptions``."""
        return cls(cosmos_from_url(url, context), clock=context.clock)
