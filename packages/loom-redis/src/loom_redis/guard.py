"""The guard's rules about the live server: what its settings take from what the adapters declare."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from loom.environment import is_loopback
from loom.guard import DURABLE_PORTS, Finding, GuardConfig, GuardRule, PortConfig, Severity
from loom.plugins import PORTS, Durability

if TYPE_CHECKING:
    from .client import Redis
    from .facts import ServerFacts

__all__ = ["redis_rules"]

_EVICTS_NOTHING = "noeviction"
_LEAST_VERSION = (7, 0)


class RedisRule(GuardRule):
    """A rule about each server under each durable port that rests on Redis. Looks only at what was opened."""

    once: ClassVar[bool] = False
    """Whether one finding does for all ports of a deployment: it is told of the first."""

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        findings: list[Finding] = []
        told: set[int] = set()
        known: dict[int, list[ServerFacts]] = {}
        for name in (port for port in PORTS if port in DURABLE_PORTS):
            port, redis = config.ports.get(name), redis_of(config.adapters.get(name))
            if port is None or redis is None or id(redis) in told:
                continue
            if id(redis) not in known:
                from .facts import server_facts  # only now: who has no Redis needs no driver

                known[id(redis)] = await server_facts(redis)
            # One finding a port, not one for each of a cluster's servers.
            for server in known[id(redis)]:
                if found := list(self.judge(port, redis, server)):
                    findings += found
                    if self.once:
                        told.add(id(redis))
                    break
        return findings

    @abstractmethod
    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        """What speaks against this server under this port."""

    def _finding(
        self, port: PortConfig, severity: Severity, reason: str, lowers: Durability | None = None, remedy: str = ""
    ) -> Finding:
        return self.finding(port.port, severity, f"{port.shown}: {reason}", remedy=remedy, lowers=lowers)


class PersistenceRule(RedisRule):
    """Whether the server writes down what it acknowledges, and when."""

    code = "redis-persistence"
    severity = "refuse (appendonly no) or warn"
    summary = "the server keeps no append-only file, or syncs it after it has acknowledged"
    remedy = "CONFIG SET appendonly yes, CONFIG SET appendfsync always, and the same in redis.conf"

    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        from .facts import promise_of

        promise = promise_of(redis, server)
        if server.appendonly is None:
            yield self._finding(port, "warn", promise, remedy="ask the service whether it keeps an append-only file")
        elif not server.appendonly:
            yield self._finding(port, "refuse", promise, Durability.NONE)
        elif server.appendfsync is None and not redis.options.wait_aof:
            remedy = "the server refuses CONFIG GET: ask the service how often it syncs (appendfsync)"
            yield self._finding(port, "warn", promise, Durability.PROCESS, remedy)
        elif server.appendfsync != "always" and not redis.options.wait_aof:
            remedy = "CONFIG SET appendfsync always; or ?wait_aof=1 with Redis 7.2 or newer"
            yield self._finding(port, "warn", promise, Durability.PROCESS, remedy)


class MemoryRule(RedisRule):
    """Whether a full server forgets."""

    code = "redis-eviction"
    severity = "refuse"
    summary = "maxmemory-policy evicts keys, so that a full server drops journals and locks in silence"
    remedy = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"

    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        if server.policy is None:
            reason = "the server does not show its maxmemory-policy"
            yield self._finding(port, "warn", reason, remedy="see in the service's settings that it is noeviction")
        elif server.policy != _EVICTS_NOTHING:
            reason = f"maxmemory-policy {server.policy}: a full server drops what was acknowledged"
            yield self._finding(port, "refuse", reason, Durability.NONE)


class ReplicaRule(RedisRule):
    """Whether anybody else has a copy."""

    code = "redis-replicas"
    once = True
    severity = "warn"
    summary = "no replica is connected, or writes are acknowledged before one has them"
    remedy = "add a replica, and ?wait_replicas=1 so that a failover loses nothing that was acknowledged"

    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        if not server.replicas:
            yield self._finding(port, "warn", "no replica is connected: the data is lost with the machine's disk")
        elif not redis.options.wait_replicas and not server.min_replicas:
            reason = "a failover may lose acknowledged writes: nobody waits until a replica has them"
            yield self._finding(port, "warn", reason)


class VersionRule(RedisRule):
    """Whether the server is one that Loom's scripts are made for."""

    code = "redis-version"
    severity = "refuse"
    summary = "the server is older than Redis 7.0"
    remedy = "use Redis 7.0 or newer"

    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        if server.version < _LEAST_VERSION:
            yield self._finding(port, "refuse", f"it is Redis {server.shown_version}")


class OpenRule(RedisRule):
    """Whether whoever reaches the server is let in."""

    code = "redis-open"
    once = True
    severity = "warn"
    summary = "the default user needs no password, and the server is not on this machine"
    remedy = "give it a password (requirepass, or ACL SETUSER default off) and a user of its own to Loom"

    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        if server.protected is False and port.url is not None and not is_loopback(port.url):
            yield self._finding(port, "warn", "whoever reaches the server may read and change everything")


class CoverageRule(RedisRule):
    """Whether a cluster with a hole goes on."""

    code = "redis-coverage"
    once = True
    severity = "warn"
    summary = "a cluster stops as a whole when one slot has no master (cluster-require-full-coverage yes)"
    remedy = "CONFIG SET cluster-require-full-coverage no: actors on the other masters go on"

    def judge(self, port: PortConfig, redis: Redis, server: ServerFacts) -> Iterator[Finding]:
        if server.full_coverage:
            yield self._finding(port, "warn", "one master without a replica that dies stops all of them")


def redis_of(adapter: Any) -> Redis | None:
    """The Redis under an adapter of this package, or under the documents that it is made over."""
    if "loom_redis.client" not in sys.modules:
        return None  # then nothing of ours was opened, and who uses another backend needs no driver
    from .client import Redis

    for holder in (adapter, getattr(adapter, "_documents", None)):
        found = getattr(holder, "_redis", None)
        if isinstance(found, Redis):
            return found
    return None


def redis_rules() -> list[GuardRule]:
    """All rules, in the order in which they are told."""
    return [PersistenceRule(), MemoryRule(), ReplicaRule(), VersionRule(), OpenRule(), CoverageRule()]
