"""Rules about where passwords and sealing keys lie."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from ..plugins import LoomURL
from ..sealing import KEYS, KEYS_FILE
from .config import GuardConfig
from .findings import Finding
from .rules import ConfigRule

__all__ = ["EnvironmentSecretsRule", "SealingKeysRule"]


class EnvironmentSecretsRule(ConfigRule):
    """A password or a key stands in an environment variable, which crash reports, child processes and ``ps`` show."""

    code = "environment-secrets"
    severity = "warn"
    summary = "a password or a sealing key lies in an environment variable"
    remedy = "put ${secret:NAME} in the password's place; keep sealing keys in a file, LOOM_SECRETS_KEYS_FILE"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        if config.environ.get(KEYS):
            remedy = f"write the keys to a file that only this service reads, and set {KEYS_FILE} to it"
            yield self.finding("secrets", "warn", f"{KEYS} holds the keys that open every secret", remedy=remedy)
        told: set[str] = set()
        for port in config.ports.values():
            named = port.source.startswith("LOOM_") and port.source not in told
            if named and port.url is not None and _holds_a_password(port.url):
                told.add(port.source)
                yield self.finding(
                    port.port,
                    "warn",
                    f"{port.source} ({port.shown}) holds a password",
                    remedy="store it with loom secrets set NAME, and write ${secret:NAME} in its place",
                )


class SealingKeysRule(ConfigRule):
    """The file of sealing keys can be read by everybody, or lies where the data does."""

    code = "sealing-keys"
    severity = "warn"
    summary = "the file of sealing keys is readable by every user, or lies beside the data that they seal"
    remedy = "chmod 600 the file, give it to the service's user, and keep it and its backups apart from the data"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        file = config.environ.get(KEYS_FILE)
        port = config.ports.get("secrets")
        if not file:
            return
        try:
            mode = Path(file).stat().st_mode
        except OSError:
            return  # whoever needs the keys is told when they are read
        if mode & stat.S_IROTH:
            yield self.finding("secrets", "warn", f"{KEYS_FILE}={file} is readable by every user of this machine")
        if port is None or port.url is None or port.url.scheme != "sqlite":
            return
        data = Path(port.url.path.removeprefix("/") or "loom.db").absolute().parent
        if Path(file).absolute().parent == data:
            yield self.finding(
                "secrets", "warn", f"{KEYS_FILE}={file} lies in the folder of {port.shown}, as the data does"
            )


def _holds_a_password(url: LoomURL) -> bool:
    hidden = "***" in str(url) and (url.password or "=***" in str(url))
    return bool(hidden) and "${secret:" not in url.raw
