"""Reading what is stored through the adapters of a URL: for stores that are servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from loom.plugins import AdapterContext
from loom.plugins.registry import AdapterRegistry
from loom.ports import CoordinationAdapter, JournalStore, MessageQueue
from loom.runtime.entries import decode_entry
from loom.runtime.messages import Kind

from .proof import Journal

__all__ = ["Reading", "coordination_of"]

_REGISTRY = AdapterRegistry()
_PAGE = 1000


class Reading:
    """Reads journals again and again: entries that were read once are kept, only new ones are asked for."""

    def __init__(self, journal: JournalStore, queue: MessageQueue) -> None:
        self.store = journal
        self.queue = queue
        self._streams: dict[str, list[Any]] = {}
        self._read: dict[str, int] = {}
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, urls: Mapping[str, str] | None = None) -> AsyncIterator[Reading]:
        """A reading of the journal and the queue of ``url``, or of ``urls`` by port, for the length of a block."""
        places, context = urls or {}, AdapterContext()
        async with AsyncExitStack() as stack:
            journal = _REGISTRY.open("journal", places.get("journal", url), context)
            queue = _REGISTRY.open("queue", places.get("queue", url), context)
            for port in (journal, queue):
                await port.start()
                stack.push_async_callback(port.close)
            yield cls(journal, queue)

    async def journal(self) -> Journal:
        """Everything as it is now. Streams are read one after the other: a proof of all of them needs them at rest."""
        async with self._one_at_a_time:
            return await self._journal()

    async def _journal(self) -> Journal:
        queued, dead = await self._mailboxes()
        names: list[str] = []
        while page := await self.store.streams(after=names[-1] if names else "", limit=_PAGE):
            names += page
        heads = await self.store.heads(names)
        await asyncio.gather(
            *(self._catch_up(name, head.seq) for name, head in zip(names, heads, strict=True) if head.seq)
        )
        return Journal({name: list(events) for name, events in self._streams.items()}, queued, dead)

    async def _catch_up(self, stream: str, seq: int) -> None:
        events, read = self._streams.setdefault(stream, []), self._read.get(stream, 0)
        assert read <= seq, f"{stream}: the head went back from {read} to {seq}"
        while read < seq:
            page = await self.store.read(stream, after=read, limit=_PAGE)
            assert page, f"{stream}: the head is at {seq}, there are {read} entries"
            for entry in page:
                assert entry.seq == read + 1, f"{stream}: {entry.seq} follows {read}"
                read = entry.seq
                events.extend(decode_entry(stream, entry.seq, entry.data))
        self._read[stream] = read

    async def _mailboxes(self) -> tuple[dict[str, Kind | None], list[str]]:
        queued: dict[str, Kind | None] = {}
        dead: list[str] = []
        for name in await self.queue.queues():
            if name.startswith("loom/shard/"):
                depth = await self.queue.depth(name)
                if depth.ready or depth.delayed or depth.leased:
                    queued[f"{name}: {depth}"] = None
                if depth.dead:
                    dead += [f"{letter.id}: {letter.reason}" for letter in await self.queue.dead_letters(name)]
        return queued, dead


@asynccontextmanager
async def coordination_of(url: str) -> AsyncIterator[CoordinationAdapter]:
    """The CoordinationAdapter of a URL, for the length of a block. It joins nothing."""
    coordination = _REGISTRY.open("coordination", url, AdapterContext())
    await coordination.start()
    try:
        yield coordination
    finally:
        await coordination.close()
