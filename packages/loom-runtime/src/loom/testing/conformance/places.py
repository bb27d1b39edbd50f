"""Where a conformance run puts its data: never where the URL points, always a fresh place for each test."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from urllib.parse import quote, urlencode

from ...plugins.urls import LoomURL

__all__ = ["Places"]

# How the schemes of this package write the path of a file. Nothing else is known about any scheme.
_FILES = {"sqlite": "sqlite:///{path}", "file": "file://{path}"}
_MEMORY = "memory"


class Places:
    """Fresh URLs of the same kind as one URL.

    Files are made in the folder of the test; memory is new by itself. Any other scheme gets its own URL with a
    ``namespace`` in the query: its adapters must keep namespaces apart, and what is in them is left behind.
    """

    def __init__(self, url: LoomURL) -> None:
        self._url = url
        self._prefix = f"loom-conformance-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)

    @property
    def local(self) -> bool:
        """Whether the data lies in this process or its files, so that the clock of this process is the only one."""
        return self._url.scheme == _MEMORY or self._url.scheme in _FILES

    @property
    def description(self) -> str:
        """Where the data goes, for people."""
        if self._url.scheme == _MEMORY:
            return "memory of this process"
        if self._url.scheme in _FILES:
            return "new files in a temporary folder"
        return f"namespaces {self._prefix}-*, which are left for you to delete"

    def fresh(self, folder: Path) -> str:
        """A URL of an empty place; ``folder`` is the test's own."""
        before, _, query = self._url.raw.partition("?")
        if self._url.scheme == _MEMORY:
            return self._url.raw
        if self._url.scheme in _FILES:
            path = quote(str(folder / (Path(self._url.path).name or "loom.db")))
            return _FILES[self._url.scheme].format(path=path) + (f"?{query}" if query else "")
        namespace = f"{self._prefix}-{next(self._numbers)}"
        # Not urlunsplit: it drops the // of a URL without a host.
        return f"{before}?{urlencode({**self._url.query, 'namespace': namespace})}"
