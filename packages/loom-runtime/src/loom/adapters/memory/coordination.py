"""Coordination of hosts in one process."""

from __future__ import annotations

from typing import Self

from ...clock import Clock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.documents import DocumentStore
from ..derived.coordination import DocumentCoordination
from .documents import InMemoryDocumentStore
from .ephemeral import warn_if_production

__all__ = ["InMemoryCoordinationAdapter"]


class InMemoryCoordinationAdapter(DocumentCoordination):
    """A fleet within one process: members live by their heartbeats within ``member_ttl``."""

    def __init__(
        self, documents: DocumentStore | None = None, *, clock: Clock | None = None, member_ttl: float = 10.0
    ) -> None:
        warn_if_production(type(self).__name__)
        super().__init__(documents or InMemoryDocumentStore.beneath(clock), clock=clock, member_ttl=member_ttl)

    @classmethod
    def sharing(cls, other: InMemoryCoordinationAdapter) -> Self:
        """Another client of the data of ``other``."""
        return cls(other._documents, clock=other._clock, member_ttl=other.member_ttl)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        documents = InMemoryDocumentStore.beneath(context.clock, shared=(url, context))
        return cls(documents, clock=context.clock)
