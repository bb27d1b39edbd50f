"""The rule about what others on the network can read."""

from __future__ import annotations

from collections.abc import Iterator

from ..environment import is_loopback
from ..plugins import LoomURL
from .config import GuardConfig
from .findings import Finding
from .rules import ConfigRule

__all__ = ["ClearTextRule"]

_ENCRYPTED: dict[str, str] = {
    "http": "https://",
    "ws": "wss://",
    "redis": "rediss://",
    "bullmq": "TLS (rediss, or ?tls=true where the adapter has it)",
    "redis+sentinel": "rediss+sentinel://",
    "redis+cluster": "rediss+cluster://",
}
"""Schemes that say plain text, and what to use instead."""


class ClearTextRule(ConfigRule):
    """A URL leaves the machine without encryption. Plugins that know more of their own schemes add rules."""

    code = "clear-text"
    severity = "warn"
    summary = "a URL with a plain-text scheme (http, redis, …) leaves the machine"
    remedy = "use the TLS form of the scheme"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        told: set[str] = set()
        for port in config.ports.values():
            if port.url is None or str(port.url) in told:
                continue
            for url in _urls_in(port.url):
                if url.scheme in _ENCRYPTED and not is_loopback(url) and not _says_tls(url):
                    told.add(str(port.url))  # one URL serves many ports; once is enough
                    yield self.finding(
                        port.port,
                        "warn",
                        f"{url} ({port.source}) leaves this machine in plain text, credentials and data",
                        remedy=f"use {_ENCRYPTED[url.scheme]}, or a private network and accept this warning",
                    )


def _urls_in(url: LoomURL) -> Iterator[LoomURL]:
    yield url
    for value in url.query.values():
        if value.startswith(("http://", "ws://")):
            yield LoomURL.parse(value)


def _says_tls(url: LoomURL) -> bool:
    return any(url.query.get(name, "").lower() in ("1", "true", "yes") for name in ("tls", "ssl"))
