"""What a server says of itself: read for ``loom doctor`` and for the guard, and put into words."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import msgspec

from loom.errors import StoreUnavailableError

from .client import Redis

__all__ = ["ServerFacts", "changes_for", "facts_of", "promise_of", "server_facts"]

_PINGS = 20


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One server that takes writes. A setting is None where the server does not let us see it (managed ones do not).

    ``replicas`` are connected ones. ``maxmemory`` is in bytes, 0 for none. ``users`` is False when the default user
    needs no password, None when that cannot be seen.
    """

    version: tuple[int, ...]
    role: str
    appendonly: bool | None = None
    appendfsync: str | None = None
    policy: str | None = None
    maxmemory: int = 0
    used_memory: int = 0
    replicas: int = 0
    min_replicas: int | None = None
    full_coverage: bool | None = None
    protected: bool | None = None

    @property
    def shown_version(self) -> str:
        """Such as ``7.0.15``."""
        return ".".join(map(str, self.version))


async def server_facts(redis: Redis) -> list[ServerFacts]:
    """Ask every server that takes writes. Raises StoreUnavailableError when one cannot be asked at all."""
    texts = await redis.call_all("INFO")
    settings = await _or_nothing(redis, len(texts), "CONFIG", "GET", "*")
    users = await _or_nothing(redis, len(texts), "ACL", "GETUSER", "default")
    return [_read(*each) for each in zip(texts, settings, users, strict=True)]


async def facts_of(redis: Redis) -> dict[str, str]:
    """Facts in words, and what to change. Holds no credentials."""
    servers = await server_facts(redis)
    found: dict[str, str] = {"servers": str(len(servers))} if len(servers) > 1 else {}
    for n, server in enumerate(servers, 1):
        mark = f" ({n})" if len(servers) > 1 else ""
        room = f"of {_size(server.maxmemory)}" if server.maxmemory else "and no maxmemory"
        found[f"server{mark}"] = f"Redis {server.shown_version}, {server.role}, {server.replicas} replicas"
        found[f"persistence{mark}"] = promise_of(redis, server)
        found[f"memory{mark}"] = f"{_size(server.used_memory)} used {room}, {server.policy or 'policy not shown'}"
    found["round trip"] = f"{await _round_trip(redis):.2f} ms (median of {_PINGS})"
    found["scripts"] = await _scripts(redis)
    changes = dict.fromkeys(change for server in servers for change in changes_for(redis, server))
    found["to change"] = "; ".join(changes) or "nothing"
    return found


def promise_of(redis: Redis, server: ServerFacts) -> str:
    """What an acknowledged call survives on this server, in words."""
    kept = f"; it is on {n} replicas as well" if (n := redis.options.wait_replicas) else ""
    if server.appendonly is None:
        return f"cannot be seen: the server does not show its settings{kept}"
    if not server.appendonly:
        return f"appendonly no: an acknowledged call is lost when the server stops{kept}"
    if redis.options.wait_aof or server.appendfsync == "always":
        return f"synced before it is acknowledged: an acknowledged call survives the machine{kept}"
    if server.appendfsync == "everysec":
        return (
            "appendfsync everysec: an acknowledged call survives the process; up to a second of them may be lost with "
            f"the machine{kept}"
        )
    if server.appendfsync == "no":
        return (
            "appendfsync no: an acknowledged call survives the process; half a minute of them may be lost with the "
            f"machine{kept}"
        )
    return f"appendonly yes, appendfsync not shown: an acknowledged call survives the process{kept}"


def changes_for(redis: Redis, server: ServerFacts) -> list[str]:
    """What to change on this server, most pressing first."""
    changes = []
    if server.version < (7, 0):
        changes.append("use Redis 7.0 or newer")
    if server.appendonly is False:
        changes.append("CONFIG SET appendonly yes")
    if server.policy not in (None, "noeviction"):
        changes.append("CONFIG SET maxmemory-policy noeviction")
    if server.appendfsync != "always" and server.appendonly and not redis.options.wait_aof:
        changes.append("CONFIG SET appendfsync always, where the machine may fail")
    if not server.maxmemory:
        changes.append("set maxmemory below what the machine has")
    return changes


def _read(text: bytes | str, settings: Any, user: Any) -> ServerFacts:
    decoded = text.decode() if isinstance(text, bytes) else text
    info = dict(line.split(":", 1) for line in decoded.splitlines() if ":" in line)
    config = {_text(name): _text(value) for name, value in settings.items()} if isinstance(settings, dict) else {}
    appendonly = config.get("appendonly") or {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""))
    full = config.get("cluster-require-full-coverage") if info.get("cluster_enabled") == "1" else None
    flags = [_text(flag) for flag in user.get(b"flags", ())] if isinstance(user, dict) else None
    least = config.get("min-replicas-to-write")
    return ServerFacts(
        version=tuple(int(part) for part in info.get("redis_version", "0").split(".") if part.isdigit()),
        role=info.get("role", "?"),
        appendonly=None if appendonly is None else appendonly == "yes",
        appendfsync=config.get("appendfsync"),
        policy=config.get("maxmemory-policy") or info.get("maxmemory_policy"),
        maxmemory=int(info.get("maxmemory", 0)),
        used_memory=int(info.get("used_memory", 0)),
        replicas=int(info.get("connected_slaves", 0)),
        min_replicas=int(least) if least is not None else None,
        full_coverage=None if full is None else full == "yes",
        protected=None if flags is None else "off" in flags or "nopass" not in flags,
    )


async def _or_nothing(redis: Redis, count: int, *command: str) -> list[Any]:
    """The answers, or None for every server where this user or this service may not ask."""
    try:
        return await redis.call_all(*command)
    except StoreUnavailableError:
        return [None] * count


async def _round_trip(redis: Redis) -> float:
    times = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        await redis.call("PING", repeatable=True)
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0)
    return statistics.median(times)


async def _scripts(redis: Redis) -> str:
    try:
        await redis.call("EVAL", "return 1", 0, repeatable=True)
    except StoreUnavailableError as error:
        return f"refused: {error}"
    return "run"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:.1f} MiB"
