"""ActorRegistry: a directory of active actors, for people and dashboards; never placement."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import msgspec

from .port import Port

__all__ = ["ActorRecord", "ActorRegistry", "ActorStatus"]

ActorStatus = Literal["active", "idle", "busy"]


class ActorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An actor seen alive on ``host`` at ``seen_at`` (Unix time)."""

    actor_type: str
    key: str
    host: str
    status: ActorStatus = "active"
    messages: int = 0
    registered_at: float = 0.0
    seen_at: float = 0.0


class ActorRegistry(Port):
    """Who is active where, as last reported. Records that nobody refreshes for ``ttl`` seconds disappear."""

    ttl: float = 300.0

    @abstractmethod
    async def register(self, record: ActorRecord) -> None:
        """Add or replace the actor's record; ``seen_at`` becomes now, ``registered_at`` is kept from the first time."""

    @abstractmethod
    async def heartbeat(
        self, actor_type: str, key: str, *, status: ActorStatus | None = None, messages: int | None = None
    ) -> bool:
        """Refresh the record and what is given of it. False when there is none: register again."""

    @abstractmethod
    async def unregister(self, actor_type: str, key: str) -> None:
        """Remove the record; harmless when it is not there."""

    @abstractmethod
    async def get(self, actor_type: str, key: str) -> ActorRecord | None:
        """The record, or None."""

    @abstractmethod
    async def list(
        self, actor_type: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[ActorRecord], str | None]:
        """Records in the order of (type, key), with the cursor of the next page or None."""
