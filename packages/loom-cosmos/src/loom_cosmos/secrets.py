"""Secrets in Cosmos DB."""

from __future__ import annotations

from typing import Self

from loom.adapters.derived.secrets import DocumentSecretsStore
from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL
from loom.sealing import Keyring

from .client import Cosmos, cosmos_from_url
from .documents import CosmosDocumentStore

__all__ = ["CosmosSecretsStore"]


class CosmosSecretsStore(DocumentSecretsStore):
    """A SecretsStore in Cosmos DB. Values are sealed before they leave this process."""

    def __init__(self, cosmos: Cosmos, *, keyring: Keyring | None = None, clock: Clock | None = None) -> None:
        self._cosmos = cosmos
        super().__init__(CosmosDocumentStore(cosmos, clock=clock), keyring=keyring, clock=clock, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``cosmos://ACCOUNT.documents.azure.com/DATABASE``; see ``CosmosOptions``."""
        return cls(cosmos_from_url(url, context), clock=context.clock)

    async def facts(self) -> dict[str, str]:
        """What the account is like, and which keys seal."""
        from .facts import facts_of

        return {**await facts_of(self._cosmos), **await super().facts()}
