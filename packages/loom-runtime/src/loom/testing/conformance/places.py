"""Where a conformance run puts its data: never where the URL points, always a fresh place for each test."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from urllib.parse import quote, urlencode

from ...plugins.urls import LoomURL

__all__ = ["NAMESPACE", "Places"]

NAMESPACE = "namespace"
"""The option of a URL's query by which adapters of unknown schemes keep tests apart."""

# How the schemes of this package write the path of a file. Nothing else is known about any scheme.
_FILES = {"sqlite": "sqlite:///{path}", "file": "file://{path}"}
_MEMORY = "memory"
_IN_FOLDER, _IN_NAMESPACE = "{folder}", "{namespace}"


class Places:
    """Fresh URLs of the same kind as one URL.

    In a URL that holds ``{folder}`` or ``{namespace}`` these become the test's own folder and a name of its own.
    Otherwise files are made in the test's folder and memory is new by itself; any other scheme gets its own URL with a
    ``namespace`` in the query. What is in namespaces is left behind.
    """

    def __init__(self, url: LoomURL) -> None:
        self._url = url
        self._prefix = f"loom-conformance-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)

    @property
    def local(self) -> bool:
        """Whether the data lies in this process or its files, so that the clock of this process is the only one."""
        return self._url.scheme in (_MEMORY, *_FILES) or _IN_FOLDER in self._url.raw

    @property
    def rests_on_namespace(self) -> bool:
        """Whether nothing but the ``namespace`` in the query keeps a test from the data at the URL."""
        named = _IN_FOLDER in self._url.raw or _IN_NAMESPACE in self._url.raw
        return not named and self._url.scheme not in (_MEMORY, *_FILES)

    @property
    def description(self) -> str:
        """Where the data goes, for people."""
        if self._url.scheme == _MEMORY:
            return "memory of this process"
        if self.local:
            return "new files in a temporary folder"
        return f"namespaces {self._prefix}-*, which are left for you to delete"

    def fresh(self, folder: Path) -> str:
        """A URL of an empty place; ``folder`` is the test's own."""
        raw, path = self._url.raw, quote(str(folder))
        namespace = f"{self._prefix}-{next(self._numbers)}"
        if _IN_FOLDER in raw or _IN_NAMESPACE in raw:
            return raw.replace(_IN_FOLDER, path).replace(_IN_NAMESPACE, namespace)
        if self._url.scheme == _MEMORY:
            return raw
        before, _, query = raw.partition("?")
        if self._url.scheme in _FILES:
            file = f"{path}/{quote(Path(self._url.path).name or 'loom.db')}"
            return _FILES[self._url.scheme].format(path=file) + (f"?{query}" if query else "")
        # Not urlunsplit: it drops the // of a URL without a host.
        return f"{before}?{urlencode({**self._url.query, NAMESPACE: namespace})}"
