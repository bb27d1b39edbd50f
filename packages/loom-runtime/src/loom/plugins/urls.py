"""URLs that choose adapters: parsing, and printing without credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from ..clock import Clock, SystemClock
from ..errors import ConfigurationError

__all__ = ["AdapterContext", "LoomURL"]

T = TypeVar("T")


class LoomURL(msgspec.Struct, frozen=True):
    """A parsed adapter URL. ``str()`` and ``repr()`` never show credentials; ``raw`` is for drivers only.

    ``shown`` is what ``str()`` gives, where that is not made of the URL: of one whose secrets were filled in.

    A URL may name several hosts, ``redis+cluster://a:7000,b:7001``: then ``host`` is that whole list and ``port`` is
    None; ``hosts`` has them one by one in either case.
    """

    scheme: str
    raw: str
    username: str = ""
    password: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""
    query: dict[str, str] = {}
    shown: str = ""

    @classmethod
    def parse(cls, text: str) -> LoomURL:
        """Raises ConfigurationError, without repeating credentials, when ``text`` is not a URL."""
        scheme, separator, _ = text.partition("://")
        if not separator or not scheme:
            raise ConfigurationError(
                "an adapter URL looks like scheme://…, for example sqlite:///loom.db; this one has no scheme://"
            )
        if "#" in text:
            raise ConfigurationError(f"{scheme}://…: write # as %23; what follows a bare # would be lost")
        try:
            start, end = _hosts_of(text)
            listed = text[start:end] if "," in text[start:end] else ""
            # Several hosts are nothing that urlsplit knows: it refuses brackets in the middle of them.
            parts = urlsplit(f"{text[:start]}hosts{text[end:]}" if listed else text)
            port = None if listed else parts.port
            for one in listed.split(","):
                _ = urlsplit(f"//{one}").port
                if listed and not urlsplit(f"//{one}").hostname:
                    raise ValueError("a host is empty")
        except ValueError:
            # Not chained: the cause repeats a part of the URL, and that may be one of the password.
            raise ConfigurationError(
                f"{scheme}://…: the host or the port (a number from 0 to 65535) cannot be read; "
                "write / : @ and # in a password as %2F %3A %40 %23"
            ) from None
        return cls(
            scheme=scheme.lower(),
            raw=text,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            host=listed.lower() or parts.hostname or "",
            port=port,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        )

    @property
    def hosts(self) -> tuple[tuple[str, int | None], ...]:
        """Every host with its port, None where the URL gives none; empty when there is no host."""
        if "," not in self.host:
            return ((self.host, self.port),) if self.host else ()
        parts = [urlsplit(f"//{one}") for one in self.host.split(",")]
        return tuple((part.hostname or "", part.port) for part in parts)

    def __str__(self) -> str:
        if self.shown:
            return self.shown
        credentials = "***@" if self.username or self.password else ""
        port = "" if self.port is None else f":{self.port}"
        secret = ("password", "secret", "key", "token", "sig", "credential")
        shown = [f"{k}={'***' if any(s in k.lower() for s in secret) else v}" for k, v in self.query.items()]
        return f"{self.scheme}://{credentials}{self.host}{port}{self.path}{'?' + '&'.join(shown) if shown else ''}"

    def __repr__(self) -> str:
        return f"LoomURL({str(self)!r})"


def _hosts_of(url: str) -> tuple[int, int]:
    """Where the hosts stand in a URL: behind the credentials, up to the path or the query."""
    start = url.index("://") + 3
    end = min(at for at in (url.find("/", start), url.find("?", start), len(url)) if at >= 0)
    return max(start, url.rfind("@", start, end) + 1), end


class AdapterContext:
    """What an adapter is built with: the clock, and a place to share a connection between the ports of one URL.

    Without ``create`` an adapter makes no storage that is not there: it raises StoreUnavailableError instead.
    """

    def __init__(self, clock: Clock | None = None, *, create: bool = True) -> None:
        self.clock = clock or SystemClock()
        self.create = create
        self._shared: dict[str, Any] = {}

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """The object that an earlier adapter of this context made under ``key``, or a new one."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found
