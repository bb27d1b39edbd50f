"""The ports: what the runtime asks of storage, queues, locks and coordination. One abstract class a file."""

from .blobs import BlobInfo, BlobPage, BlobStore
from .coordination import CoordinationAdapter, Member, ShardLease, TypeLease, clocks_apart
from .documents import (
    Collection,
    Condition,
    Delete,
    Document,
    DocumentStore,
    Operation,
    Page,
    Put,
    Query,
    check_indexed,
)
from .idempotency import IdempotencyRecord, IdempotencyStore
from .journal import Append, Appended, Head, JournalEntry, JournalStore, Snapshot, conflict
from .lock import Lease, LockManager
from .port import MAX_KEY_BYTES, Port, check_key
from .queue import DeadLetter, Delivery, DirectChannel, MessageQueue, OutgoingMessage, QueueDepth
from .registry import ActorRecord, ActorRegistry, ActorStatus
from .state import StateRecord, StateStore

__all__ = [
    "MAX_KEY_BYTES",
    "ActorRecord",
    "ActorRegistry",
    "ActorStatus",
    "Append",
    "Appended",
    "BlobInfo",
    "BlobPage",
    "BlobStore",
    "Collection",
    "Condition",
    "CoordinationAdapter",
    "DeadLetter",
    "Delete",
    "Delivery",
    "DirectChannel",
    "Document",
    "DocumentStore",
    "Head",
    "IdempotencyRecord",
    "IdempotencyStore",
    "JournalEntry",
    "JournalStore",
    "Lease",
    "LockManager",
    "Member",
    "MessageQueue",
    "Operation",
    "OutgoingMessage",
    "Page",
    "Port",
    "Put",
    "Query",
    "QueueDepth",
    "ShardLease",
    "Snapshot",
    "StateRecord",
    "StateStore",
    "TypeLease",
    "check_indexed",
    "check_key",
    "clocks_apart",
    "conflict",
]
