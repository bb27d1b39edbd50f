"""Stores that write what they acknowledged to their file when they are closed or the process ends, and not before.

A clean end loses nothing, and no test that only reopens the data can tell. Their own module, beside the mutants,
because the other process of a test imports them by name.
"""

from __future__ import annotations

import atexit
import pickle
from pathlib import Path
from typing import Any, ClassVar, Self

from loom.adapters.memory.blobs import InMemoryBlobStore
from loom.adapters.memory.documents import InMemoryDocumentStore
from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.memory.lock import InMemoryLockManager
from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.clock import Clock
from loom.plugins.urls import AdapterContext, LoomURL


class _FlushesLate:
    kept: ClassVar[tuple[str, ...]]
    """The attributes of the adapter's world that are its data."""
    clients: ClassVar[dict[Path, list[Any]]] = {}
    """The open clients of each file, which share a world."""

    _world: Any

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)  # type: ignore[call-arg]
        self.path = path

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        return cls(Path(url.path), clock=context.clock)

    async def start(self) -> None:
        others = self.clients.setdefault(self.path, [])
        if self in others:
            return
        if others:
            self._world = others[0]._world
        elif self.path.exists():
            vars(self._world).update(pickle.loads(self.path.read_bytes()))
        others.append(self)
        atexit.register(self.flush)

    async def close(self) -> None:
        if self in self.clients.get(self.path, ()):
            self.flush()
            atexit.unregister(self.flush)
            self.clients[self.path].remove(self)

    def flush(self) -> None:
        self.path.write_bytes(pickle.dumps({name: getattr(self._world, name) for name in self.kept}))


class LateJournal(_FlushesLate, InMemoryJournalStore):
    kept = ("streams", "names")


class LateQueue(_FlushesLate, InMemoryMessageQueue):
    kept = ("queues",)


class LateLocks(_FlushesLate, InMemoryLockManager):
    kept = ("leases", "tokens")


class LateDocuments(_FlushesLate, InMemoryDocumentStore):
    kept = ("tables", "prefix", "writes")


class LateBlobs(_FlushesLate, InMemoryBlobStore):
    kept = ("blobs", "names")
