"""The directory of active actors in the memory of this process."""

from __future__ import annotations

from typing import Self

from ...clock import Clock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.documents import DocumentStore
from ..derived.registry import DocumentActorRegistry
from .documents import InMemoryDocumentStore
from .ephemeral import warn_if_production

__all__ = ["InMemoryActorRegistry"]


class InMemoryActorRegistry(DocumentActorRegistry):
    """An ActorRegistry that lives as long as the process, over a store of its own unless it is given one."""

    def __init__(
        self, documents: DocumentStore | None = None, *, clock: Clock | None = None, ttl: float = 300.0
    ) -> None:
        warn_if_production(type(self).__name__)
        super().__init__(documents or InMemoryDocumentStore.beneath(clock), clock=clock, ttl=ttl)

    @classmethod
    def sharing(cls, other: InMemoryActorRegistry) -> Self:
        """Another client of the data of ``other``."""
        return cls(other._documents, clock=other._clock, ttl=other.ttl)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        documents = InMemoryDocumentStore.beneath(context.clock, shared=(url, context))
        return cls(documents, clock=context.clock)
