"""The adapters that come with loom-runtime, registered like anybody else's."""

from __future__ import annotations

from collections.abc import Iterator

from .hookspecs import hookimpl
from .spec import AdapterSpec, Durability, Feature, PortName, Reach

__all__ = ["loom_register_adapters"]

_FEATURES: dict[PortName, frozenset[Feature]] = {
    "journal": frozenset({Feature.FENCING}),
    "queue": frozenset({Feature.ORDERED, Feature.DELAYED, Feature.PRIORITY}),
    "locks": frozenset({Feature.FENCING}),
    "documents": frozenset({Feature.TTL}),
    "secrets": frozenset({Feature.SOFT_DELETE}),
}

# In a SQLite file members live as long as their processes hold a lock: no moment ends them.
_MEMORY_FEATURES: dict[PortName, frozenset[Feature]] = {
    **_FEATURES,
    "queue": _FEATURES["queue"] | {Feature.DIRECT},
    "coordination": frozenset({Feature.TTL}),
}

_MEMORY: dict[PortName, str] = {
    "journal": "loom.adapters.memory.journal:InMemoryJournalStore",
    "queue": "loom.adapters.memory.queue:InMemoryMessageQueue",
    "locks": "loom.adapters.memory.lock:InMemoryLockManager",
    "documents": "loom.adapters.memory.documents:InMemoryCosmos",
    "blobs": "loom.adapters.memory.blobs:InMemoryBlobStore",
    "state": "loom.adapters.memory.state:InMemoryStateStore",
    "idempotency": "loom.adapters.memory.idempotency:InMemoryIdempotencyStore",
    "coordination": "loom.adapters.memory.coordination:InMemoryCoordinationAdapter",
    "registry": "loom.adapters.memory.registry:InMemoryActorRegistry",
    "secrets": "loom.adapters.memory.secrets:InMemorySecretsStore",
}

_SQLITE: dict[PortName, str] = {
    "journal": "loom.adapters.sqlite.journal:SqliteJournalStore",
    "queue": "loom.adapters.sqlite.queue:SqliteMessageQueue",
    "locks": "loom.adapters.sqlite.lock:SqliteLockManager",
    "documents": "loom.adapters.sqlite.documents:SqliteDocumentStore",
    "blobs": "loom.adapters.filesystem.blobs:FileBlobStore",
    "state": "loom.adapters.sqlite.state:SqliteStateStore",
    "idempotency": "loom.adapters.sqlite.idempotency:SqliteIdempotencyStore",
    "coordination": "loom.adapters.sqlite.coordination:SqliteCoordinationAdapter",
    "registry": "loom.adapters.sqlite.registry:SqliteActorRegistry",
    "secrets": "loom.adapters.sqlite.secrets:SqliteSecretsStore",
}


@hookimpl
def loom_register_adapters() -> Iterator[AdapterSpec]:
    """Memory for every port, SQLite for every port with blobs as files beside it, and files for blobs alone."""
    for port, target in _MEMORY.items():
        yield AdapterSpec(
            port=port, scheme="memory", target=target, durability=Durability.NONE, reach=Reach.PROCESS,
            features=_MEMORY_FEATURES.get(port, frozenset()), summary="memory of the process; forgets when it ends",
        )  # fmt: skip
    for port, target in _SQLITE.items():
        yield AdapterSpec(
            port=port, scheme="sqlite", target=target, durability=Durability.MACHINE, reach=Reach.HOST,
            features=_FEATURES.get(port, frozenset()),
            summary="files beside the database" if port == "blobs" else "one SQLite file, synced per commit",
        )  # fmt: skip
    yield AdapterSpec(
        port="blobs", scheme="file", target=_SQLITE["blobs"], durability=Durability.MACHINE, reach=Reach.HOST,
        summary="files in a folder",
    )  # fmt: skip
