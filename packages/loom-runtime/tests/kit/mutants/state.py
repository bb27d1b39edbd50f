"""State stores, each broken in one way."""

from __future__ import annotations

import asyncio

import msgspec

from loom.adapters.memory.state import InMemoryStateStore
from loom.clock import Clock
from loom.ports.documents import DocumentStore
from loom.ports.state import StateRecord

from . import documents as broken


class StateMovesBackwards(InMemoryStateStore):
    """Keeps the record that came last, not the newest."""

    async def save(self, record: StateRecord) -> bool:
        await self.delete(record.actor_type, record.key)
        return await super().save(record)


class LooksBeforeItSaves(InMemoryStateStore):
    """Compares, waits, and overwrites what another has saved meanwhile."""

    async def save(self, record: StateRecord) -> bool:
        found = await self.load(record.actor_type, record.key)
        if found is not None and found.seq >= record.seq:
            return False
        await asyncio.sleep(0)
        await self.delete(record.actor_type, record.key)
        return await super().save(record)


class MixesTypes(InMemoryStateStore):
    """Finds an actor by its key alone."""

    async def save(self, record: StateRecord) -> bool:
        return await super().save(msgspec.structs.replace(record, actor_type="any"))

    async def load(self, actor_type: str, key: str) -> StateRecord | None:
        found = await super().load("any", key)
        return None if found is None else msgspec.structs.replace(found, actor_type=actor_type)

    async def query(
        self, actor_type: str, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[StateRecord], str | None]:
        found, after = await super().query("any", limit=limit, cursor=cursor)
        return [msgspec.structs.replace(record, actor_type=actor_type) for record in found], after


class IsNotDurable(InMemoryStateStore):
    """Declares that it is, over documents that are not."""

    def __init__(self, documents: DocumentStore | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(documents or broken.IsNotDurable(clock=clock), clock=clock)

    async def close(self) -> None:
        await super().close()
        await self._documents.close()
