"""Rules about files on this machine: the disk they lie on, and whether SQLite waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..plugins import Durability, LoomURL
from .config import GuardConfig, PortConfig
from .findings import Finding, Severity
from .mounts import filesystem_of, kind_of
from .rules import ConfigRule

__all__ = ["FileSystemRule", "SynchronousRule"]


class FileSystemRule(ConfigRule):
    """Durable files lie where they are not durable, or where SQLite's locks cannot be trusted."""

    code = "file-system"
    severity = "refuse"
    summary = "durable files lie on tmpfs, ramfs, a container's overlay or a network file system"
    remedy = "mount a volume that outlives the container, on a local disk"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        mounts: str | None = None
        told: set[Path] = set()
        for port, spec in config.served():
            path = _database_path(port, config) or _folder_path(port, config)
            if path is None or path in told or spec.durability == Durability.NONE:
                continue
            told.add(path)
            mounts = mounts if mounts is not None else config.mounts() or ""
            if found := filesystem_of(path, mounts):
                yield from self._judge(port, path, *found)

    def _judge(self, port: PortConfig, path: Path, filesystem: str, point: str) -> Iterator[Finding]:
        kind = kind_of(filesystem)
        where = f"{path} ({port.source}) lies on {filesystem} mounted at {point}"
        if kind == "memory":
            reason = f"{where}, which is memory and gone when the machine stops"
            yield self.finding(port.port, "refuse", reason, lowers=Durability.PROCESS)
        elif kind == "layer":
            reason = f"{where}, a container's own layer, gone with the container"
            yield self.finding(port.port, "refuse", reason, lowers=Durability.PROCESS)
        elif kind == "network" and port.port != "blobs":
            reason = f"{where}; SQLite's locks and shared memory do not work over a network"
            yield self.finding(port.port, "refuse", reason)
        elif kind == "network":
            reason = f"{where}; whether a write is durable when it is reported depends on the server's options"
            yield self.finding(port.port, "warn", reason, remedy="use a local disk, or a blob store made for sharing")


class SynchronousRule(ConfigRule):
    """SQLite is told not to wait for the disk."""

    code = "sqlite-synchronous"
    severity = "refuse (OFF) or warn (NORMAL)"
    summary = "SQLite runs with synchronous=OFF, which can ruin the file, or NORMAL, which loses the last commits"
    remedy = "leave synchronous at FULL"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        told: set[Path] = set()
        for port, _ in config.served():
            path = _database_path(port, config)
            if path is None or path in told:
                continue
            mode = _synchronous(port, config)
            if mode in ("OFF", "0"):
                told.add(path)
                yield self._lowered(port, "refuse", f"{path}: synchronous=OFF; losing power may ruin the whole file")
            elif mode in ("NORMAL", "1"):
                told.add(path)
                yield self._lowered(port, "warn", f"{path}: synchronous=NORMAL; losing power loses the last commits")

    def _lowered(self, port: PortConfig, severity: Severity, reason: str) -> Finding:
        remedy = "take synchronous=… out of the URL: FULL is the default"
        reason = f"{reason} ({port.source})"
        return self.finding(port.port, severity, reason, remedy=remedy, lowers=Durability.PROCESS)


def _database_of(port: PortConfig, config: GuardConfig) -> Any:
    """The shared file of a SQLite adapter, where there is an adapter: it knows more than its URL."""
    adapter: Any = port.instance or config.adapters.get(port.port)
    for holder in (adapter, getattr(adapter, "_documents", None)):
        database = getattr(holder, "_database", None)
        if hasattr(database, "path") and hasattr(database, "synchronous"):
            return database
    return None


def _database_path(port: PortConfig, config: GuardConfig) -> Path | None:
    database = _database_of(port, config)
    if database is not None:
        return Path(database.path).absolute()
    if port.url is not None and port.url.scheme == "sqlite" and port.port != "blobs":
        return _sqlite_file(port.url)
    return None


def _folder_path(port: PortConfig, config: GuardConfig) -> Path | None:
    """Where blobs lie: the folder of the adapter or of a file:// URL, or the one beside the database."""
    folder = getattr(port.instance or config.adapters.get(port.port), "folder", None)
    if isinstance(folder, str | Path):
        return Path(folder).absolute()
    if port.url is None or port.port != "blobs":
        return None
    if port.url.scheme == "file":
        return Path(port.url.path or "/")
    return Path(f"{_sqlite_file(port.url)}.blobs") if port.url.scheme == "sqlite" else None


def _sqlite_file(url: LoomURL) -> Path:
    return Path(url.path.removeprefix("/") or "loom.db").absolute()


def _synchronous(port: PortConfig, config: GuardConfig) -> str:
    database = _database_of(port, config)
    if database is not None:
        return str(database.synchronous).upper()
    return port.url.query.get("synchronous", "FULL").upper() if port.url is not None else "FULL"
