"""Coordination of the processes that share a SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ...clock import Clock
from ...plugins.urls import AdapterContext, LoomURL
from ..derived.coordination import DocumentCoordination
from ..file_lock import KERNEL_LOCKS
from .database import Database, database_from_url
from .documents import SqliteDocumentStore
from .member_locks import FileLockLiveness

__all__ = ["SqliteCoordinationAdapter"]


class SqliteCoordinationAdapter(DocumentCoordination):
    """A small fleet on one host. Members live by a kernel file lock in ``<file>.members``, not by a clock.

    Where the platform has no ``flock``, they live by heartbeats within ``member_ttl``.
    """

    def __init__(self, database: Database, *, clock: Clock | None = None, member_ttl: float = 10.0) -> None:
        folder = Path(f"{database.path}.members")
        super().__init__(
            SqliteDocumentStore(database, clock=clock),
            clock=clock,
            member_ttl=member_ttl,
            liveness=FileLockLiveness(folder) if KERNEL_LOCKS else None,
            owned=True,
        )

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``sqlite:///loom.db``; see ``database_from_url``."""
        return cls(database_from_url(url, context), clock=context.clock)
