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
from .secrets import (
    MAX_SECRET_BYTES,
    MIN_VERSIONS,
    Rotation,
    Secret,
    SecretsStore,
    SecretValue,
    SecretVersion,
)
from .state import StateRecord, StateStore
from .tlsnotary import (
    AuthenticatedBytes,
    HttpHeader,
    HttpMessage,
    NotaryKey,
    TLSNotaryPolicy,
    TLSNotaryVerdict,
    TLSNotaryVerifier,
)

__all__ = [
    "MAX_KEY_BYTES",
    "MAX_SECRET_BYTES",
    "MIN_VERSIONS",
    "ActorRecord",
    "ActorRegistry",
    "ActorStatus",
    "Append",
    "Appended",
    "AuthenticatedBytes",
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
    "HttpHeader",
    "HttpMessage",
    "IdempotencyRecord",
    "IdempotencyStore",
    "JournalEntry",
    "JournalStore",
    "Lease",
    "LockManager",
    "Member",
    "MessageQueue",
    "NotaryKey",
    "Operation",
    "OutgoingMessage",
    "Page",
    "Port",
    "Put",
    "Query",
    "QueueDepth",
    "Rotation",
    "Secret",
    "SecretValue",
    "SecretVersion",
    "SecretsStore",
    "ShardLease",
    "Snapshot",
    "StateRecord",
    "StateStore",
    "TLSNotaryPolicy",
    "TLSNotaryVerdict",
    "TLSNotaryVerifier",
    "TypeLease",
    "check_indexed",
    "check_key",
    "clocks_apart",
    "conflict",
]
