"""What the adapters over a SQLite file share: they are opened with their database, and closed with it."""

from __future__ import annotations

from typing import ClassVar, Self

from ...clock import Clock, SystemClock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.port import Port
from .database import Database, database_from_url

__all__ = ["SqliteAdapter"]


class SqliteAdapter(Port):
    """The life of an adapter over a ``Database``, which counts its users: the last one closes it."""

    schema: ClassVar[tuple[str, ...]] = ()
    """Statements that make the tables, if they are not there."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._started = False

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``sqlite:///FILE``; see ``database_from_url`` for the options."""
        return cls(database_from_url(url, context), clock=context.clock)

    async def start(self) -> None:
        if self._started:
            return
        await self._database.start()
        self._started = True
        try:
            if self.schema:
                await self._database.create(self.schema)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._started:
            self._started = False
            await self._drain()
            await self._database.close()

    async def _drain(self) -> None:
        """As it is closed, for the last time with the database: end what is under way."""
