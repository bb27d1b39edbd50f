"""Places where a bank can live: a SQLite file, or what a URL or a loom.toml names."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from loom import Client, Loom

from .bank import database_url, make_app
from .process import Worker
from .proof import Journal
from .reading import Reading

__all__ = ["MEMBER_TTL", "FilePlace", "Place", "UrlPlace"]

MEMBER_TTL = 1.5
"""Seconds until a dead host counts as dead on the servers of the tests: short, for tests wait for it."""


class Place(ABC):
    """Where a bank lives, for tests that are the same everywhere."""

    def __init__(
        self, url: str, urls: Mapping[str, str] | None = None, options: Mapping[str, Any] | None = None,
        toml: Path | None = None,
    ) -> None:  # fmt: skip
        """``url`` names the coordination, and with ``urls`` by port everything, unless the file ``toml`` does."""
        self.url = url
        self.urls = dict(urls or {})
        self.options = dict(options or {})
        self.toml = toml

    @abstractmethod
    async def journal(self) -> Journal:
        """What is stored there now."""

    def app(self) -> Loom:
        """The bank there."""
        return make_app(str(self.toml or self.url), self.urls, **self.options)

    def client(self) -> AbstractAsyncContextManager[Client]:
        """A client of the bank there, which hosts nothing."""
        return self.app().client()

    def host(self, *, url: str = "", ready: bool = True, **environment: str) -> AbstractAsyncContextManager[Worker]:
        """A host of the bank there, a process of its own; by another ``url`` of the same place, if one is given."""
        settings = {"BANK_URLS": json.dumps(self.urls), "BANK_OPTIONS": json.dumps(self.options)}
        return Worker.running(
            "bank_host", url or str(self.toml or self.url), ready=ready, **{**settings, **environment}
        )

    async def unfinished(self) -> list[str]:
        """See ``Journal.unfinished``; for ``eventually``."""
        return (await self.journal()).unfinished()


class FilePlace(Place):
    """A SQLite file, which is read by plain SQL."""

    def __init__(self, file: Path, **options: Any) -> None:
        super().__init__(database_url(file), options=options)
        self.file = file

    async def journal(self) -> Journal:
        return Journal.of_file(self.file)


class UrlPlace(Place):
    """A server, which is read through its adapters."""

    def __init__(
        self, reading: Reading, url: str, urls: Mapping[str, str] | None = None, *, toml: Path | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(url, urls, options, toml)
        self.reading = reading

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, urls: Mapping[str, str] | None = None, **options: Any) -> AsyncIterator[UrlPlace]:
        """The place of ``url``, with ``urls`` by port beside it, for the length of a block."""
        async with Reading.of(url, urls) as reading:
            yield cls(reading, url, urls, **options)

    async def journal(self) -> Journal:
        return await self.reading.journal()
