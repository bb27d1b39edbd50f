"""The plugin: declares the adapters of this package without importing a driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from loom.plugins import AdapterSpec, Durability, Feature, PortName, Reach, hookimpl

__all__ = ["loom_guard_rules", "loom_register_adapters"]

_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")

_ADAPTERS: dict[PortName, tuple[str, frozenset[Feature]]] = {
    "documents": ("loom_redis.documents:RedisDocumentStore", frozenset({Feature.TTL})),
    "state": ("loom_redis.state:RedisStateStore", frozenset()),
    "idempotency": ("loom_redis.idempotency:RedisIdempotencyStore", frozenset()),
    "registry": ("loom_redis.registry:RedisActorRegistry", frozenset()),
    "secrets": ("loom_redis.secrets:RedisSecretsStore", frozenset({Feature.SOFT_DELETE})),
    "locks": ("loom_redis.lock:RedisLockManager", frozenset({Feature.FENCING})),
    "queue": (
        "loom_redis.queue:RedisMessageQueue",
        frozenset({Feature.ORDERED, Feature.DELAYED, Feature.PRIORITY, Feature.DIRECT}),
    ),
    "coordination": ("loom_redis.coordination:RedisCoordinationAdapter", frozenset({Feature.TTL})),
    "journal": ("loom_redis.journal:RedisJournalStore", frozenset({Feature.FENCING})),
}

_BULLMQ = AdapterSpec(
    port="queue",
    scheme="bullmq",
    target="loom_redis.bullmq:BullMQMessageQueue",
    durability=Durability.MACHINE,
    reach=Reach.NETWORK,
    features=frozenset({Feature.DELAYED, Feature.PRIORITY}),
    distribution="loom-redis",
    summary="BullMQ queues, shared with workers in Node; durable as the server's append-only file says",
)


@hookimpl
def loom_register_adapters() -> Iterable[AdapterSpec]:
    """Every port but blobs under every scheme of Redis, and queues under that of BullMQ."""
    return _specs()


@hookimpl
def loom_guard_rules() -> Iterable[Any]:
    """Rules that look at the live server; the driver is imported when one finds something of ours opened."""
    from .guard import redis_rules

    return redis_rules()


def _specs() -> Iterator[AdapterSpec]:
    for scheme in _SCHEMES:
        for port, (target, features) in _ADAPTERS.items():
            yield AdapterSpec(
                port=port,
                scheme=scheme,
                target=target,
                durability=Durability.MACHINE,
                reach=Reach.HOST if scheme == "unix" else Reach.NETWORK,
                features=features,
                distribution="loom-redis",
                summary="a Redis server; durable as its append-only file says",
            )
    yield _BULLMQ
