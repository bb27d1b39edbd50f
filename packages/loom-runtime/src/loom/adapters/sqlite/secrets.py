"""Secrets in a SQLite file."""

from __future__ import annotations

from typing import Self

from ...clock import Clock
from ...plugins.urls import AdapterContext, LoomURL
from ...sealing import Keyring
from ..derived.secrets import DocumentSecretsStore
from .database import Database, database_from_url
from .documents import SqliteDocumentStore

__all__ = ["SqliteSecretsStore"]


class SqliteSecretsStore(DocumentSecretsStore):
    """A SecretsStore in a SQLite file. Values are sealed before the file gets them."""

    def __init__(self, database: Database, *, keyring: Keyring | None = None, clock: Clock | None = None) -> None:
        super().__init__(SqliteDocumentStore(database, clock=clock), keyring=keyring, clock=clock, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``sqlite:///loom.db``; see ``database_from_url``."""
        return cls(database_from_url(url, context), clock=context.clock)
