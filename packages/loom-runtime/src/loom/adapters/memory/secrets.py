"""Secrets in the memory of this process."""

from __future__ import annotations

import secrets
from typing import Self

from ...clock import Clock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.documents import DocumentStore
from ...sealing import Keyring, SealingKey
from ..derived.secrets import DocumentSecretsStore
from .documents import InMemoryDocumentStore
from .ephemeral import warn_if_production

__all__ = ["InMemorySecretsStore"]


class InMemorySecretsStore(DocumentSecretsStore):
    """A SecretsStore that lives as long as the process, sealed by a key that does too, unless it is given others."""

    def __init__(
        self, documents: DocumentStore | None = None, *, keyring: Keyring | None = None, clock: Clock | None = None
    ) -> None:
        warn_if_production(type(self).__name__)
        super().__init__(
            documents or InMemoryDocumentStore.beneath(clock), keyring=keyring or _passing_keyring(), clock=clock
        )

    @classmethod
    def sharing(cls, other: InMemorySecretsStore) -> Self:
        """Another client of the data of ``other``."""
        return cls(other._documents, keyring=other._keyring, clock=other._clock)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        documents = InMemoryDocumentStore.beneath(context.clock, shared=(url, context))
        keyring = context.shared("memory secrets: keyring", _passing_keyring)
        return cls(documents, keyring=keyring, clock=context.clock)


def _passing_keyring() -> Keyring:
    return Keyring([SealingKey("process", secrets.token_bytes(32))], "this process")
