"""Actor registries, each broken in one way."""

from __future__ import annotations

import asyncio

import msgspec

from loom.adapters.memory.registry import InMemoryActorRegistry
from loom.clock import Clock
from loom.ports.documents import DocumentStore
from loom.ports.registry import ActorRecord, ActorStatus

from . import documents as broken


class NothingExpires(InMemoryActorRegistry):
    """Lists the actors of hosts that died long ago."""

    def __init__(
        self, documents: DocumentStore | None = None, *, clock: Clock | None = None, ttl: float = 300.0
    ) -> None:
        super().__init__(documents or broken.NothingExpires(clock=clock), clock=clock, ttl=ttl)


class HeartbeatsChangeNothing(InMemoryActorRegistry):
    """Says that the actor is there, and lets its record end."""

    async def heartbeat(
        self, actor_type: str, key: str, *, status: ActorStatus | None = None, messages: int | None = None
    ) -> bool:
        return await self.get(actor_type, key) is not None


class ForgetsSince(InMemoryActorRegistry):
    """Takes a refreshed record for a new one."""

    async def register(self, record: ActorRecord) -> None:
        await self.unregister(record.actor_type, record.key)
        await super().register(record)


class HeartbeatsOverwrite(InMemoryActorRegistry):
    """Reads a record, waits, and writes all of it: of two refreshes at once one is lost."""

    async def heartbeat(
        self, actor_type: str, key: str, *, status: ActorStatus | None = None, messages: int | None = None
    ) -> bool:
        found = await self.get(actor_type, key)
        if found is None:
            return False
        await asyncio.sleep(0)
        new = msgspec.structs.replace(
            found, status=status or found.status, messages=found.messages if messages is None else messages
        )
        await self.register(new)
        return True


class IsNotDurable(InMemoryActorRegistry):
    """Declares that it is, over documents that are not."""

    def __init__(
        self, documents: DocumentStore | None = None, *, clock: Clock | None = None, ttl: float = 300.0
    ) -> None:
        super().__init__(documents or broken.IsNotDurable(clock=clock), clock=clock, ttl=ttl)

    async def close(self) -> None:
        await super().close()
        await self._documents.close()
