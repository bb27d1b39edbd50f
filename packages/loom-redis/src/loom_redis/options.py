"""What a Redis URL says: where the servers are, who one is, and how long one waits."""

from __future__ import annotations

import difflib
from typing import Any, Literal, Self

import msgspec

from loom.errors import ConfigurationError
from loom.plugins import LoomURL

__all__ = ["MODES", "Mode", "RedisOptions"]

Mode = Literal["standalone", "sentinel", "cluster"]

MODES: dict[str, Mode] = {
    "redis": "standalone",
    "rediss": "standalone",
    "unix": "standalone",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
    "bullmq": "standalone",
}
"""The schemes, and what kind of deployment each names. ``rediss`` is TLS."""

_DEFAULT_PORTS: dict[Mode, int] = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach Redis. ``repr`` shows no credentials.

    ``redis://user:password@host:6379/0``, ``rediss://…`` (TLS), ``unix:///run/redis.sock?db=0``,
    ``redis+sentinel://host:26379,other:26379/mymaster/0``, ``redis+cluster://host:7000,other:7001``. The query may set:

    - ``namespace`` (``loom``): the first part of every key, so that several systems can share a server;
    - ``timeout`` (5): seconds until an unanswered command's connection is given up;
    - ``connect_timeout`` (5): seconds to connect in;
    - ``retry_for`` (10): seconds for which commands that did not run are tried again, with growing pauses
      (LOADING, READONLY, CLUSTERDOWN, no connection);
    - ``wait_replicas`` (0) and ``wait_aof`` (0 or 1): a write is reported only when so many replicas have it
      (``WAIT``), and when the server has it in its synced append-only file (``WAITAOF``, Redis 7.2 or newer);
    - ``wait_timeout`` (2): seconds that such a wait may take;
    - ``dedupe_window`` (300): seconds for which a queue remembers the ids of finished messages;
    - ``member_ttl`` (10): seconds without a heartbeat after which a host counts as dead;
    - ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``: files in PEM; ``ssl_check_hostname`` (1) may be 0 in tests;
    - ``sentinel_username``, ``sentinel_password``: of the sentinels, where they differ from the servers'.
    """

    mode: Mode = "standalone"
    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    path: str = ""
    username: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False
    service: str = ""
    namespace: str = "loom"
    timeout: float = 5.0
    connect_timeout: float = 5.0
    retry_for: float = 10.0
    wait_replicas: int = 0
    wait_aof: int = 0
    wait_timeout: float = 2.0
    dedupe_window: float = 300.0
    member_ttl: float = 10.0
    ssl_ca_certs: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_check_hostname: bool = True
    sentinel_username: str = ""
    sentinel_password: str = ""

    @classmethod
    def from_url(cls, url: LoomURL) -> Self:
        """Raises ConfigurationError, without credentials, for an option that does not exist or does not fit."""
        mode = MODES.get(url.scheme)
        if mode is None:
            raise ConfigurationError(f"{url}: the scheme is none of {', '.join(MODES)}", scheme=url.scheme)
        given: dict[str, Any] = {name: _convert(url, name, text) for name, text in url.query.items()}
        parts = [part for part in url.path.split("/") if part]
        if url.scheme == "unix":
            if not url.path:
                raise ConfigurationError(f"{url}: name the socket, for example unix:///run/redis.sock?db=0")
            given["path"] = url.path
            parts = []
        if mode == "sentinel":
            if not parts:
                raise ConfigurationError(f"{url}: name the master's group after the hosts: …:26379/mymaster/0")
            given["service"] = parts.pop(0)
        if parts:
            if "db" in given:
                raise ConfigurationError(f"{url}: the database is given twice, in the path and in the query")
            given["db"] = _convert(url, "db", parts.pop(0))
        if parts:
            raise ConfigurationError(f"{url}: nothing may follow the database number; remove {'/'.join(parts)!r}")
        if mode == "cluster" and given.get("db"):
            raise ConfigurationError(f"{url}: a cluster has only database 0")
        if len(url.hosts) > 1 and mode == "standalone":
            raise ConfigurationError(
                f"{url}: several hosts need redis+sentinel:// or redis+cluster://, which say how they belong together"
            )
        waits = given.get("wait_aof") or given.get("wait_replicas")
        if waits and given.get("wait_timeout", 2.0) >= given.get("timeout", 5.0):
            raise ConfigurationError(
                f"{url}: wait_timeout must be less than timeout, or the connection is given up first"
            )
        if given.get("wait_aof", 0) > 1:
            raise ConfigurationError(f"{url}: wait_aof is 0 or 1, since only the server's own file can be waited for")
        return cls(
            mode=mode,
            hosts=tuple((host, port or _DEFAULT_PORTS[mode]) for host, port in url.hosts)
            or (("localhost", _DEFAULT_PORTS[mode]),),
            username=url.username,
            password=url.password,
            tls=url.scheme.startswith("rediss"),
            **given,
        )

    def __repr__(self) -> str:
        where = self.path or ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"RedisOptions({self.mode} {where}/{self.service or self.db} namespace={self.namespace!r})"

    def __rich_repr__(self) -> Any:
        # msgspec's own would show every field to rich, the password among them.
        yield repr(self)

    @property
    def where(self) -> str:
        """The servers, for messages; no credentials."""
        return self.path or ",".join(f"{host}:{port}" for host, port in self.hosts)


_SETTABLE: dict[str, type] = {
    "db": int,
    "namespace": str,
    "timeout": float,
    "connect_timeout": float,
    "retry_for": float,
    "wait_replicas": int,
    "wait_aof": int,
    "wait_timeout": float,
    "dedupe_window": float,
    "member_ttl": float,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_check_hostname": bool,
    "sentinel_username": str,
    "sentinel_password": str,
}


def _convert(url: LoomURL, name: str, text: str) -> Any:
    kind = _SETTABLE.get(name)
    if kind is None:
        close = difflib.get_close_matches(name, _SETTABLE, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_SETTABLE))}"
        raise ConfigurationError(f"{url}: there is no option {name!r}; {hint}", option=name)
    try:
        value: Any = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{url}: {name} must be {_NOUNS[kind]}", option=name) from None
    if kind in (int, float) and not 0 <= value < 1e9:
        raise ConfigurationError(f"{url}: {name} must be zero or more", option=name)
    if kind is str and not value:
        raise ConfigurationError(f"{url}: {name} is empty", option=name)
    return value


_NOUNS = {int: "a whole number", float: "a number of seconds", bool: "1 or 0", str: "text"}
