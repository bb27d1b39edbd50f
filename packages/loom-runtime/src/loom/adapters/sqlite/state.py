"""Actor state in a SQLite file."""

from __future__ import annotations

from typing import Self

from ...clock import Clock
from ...plugins.urls import AdapterContext, LoomURL
from ..derived.state import DocumentStateStore
from .database import Database, database_from_url
from .documents import SqliteDocumentStore

__all__ = ["SqliteStateStore"]


class SqliteStateStore(DocumentStateStore):
    """A StateStore in a SQLite file."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        super().__init__(SqliteDocumentStore(database, clock=clock), clock=clock, owned=True)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``sqlite:///loom.db``; see ``database_from_url``."""
        return cls(database_from_url(url, context), clock=context.clock)
