"""Blobs in the memory of this process."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Mapping
from typing import Self

from ...clock import Clock, SystemClock
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.blobs import BlobInfo, BlobPage, BlobStore
from ...ports.port import check_key
from ..blob_rules import CHUNK, check_condition, check_limit, check_metadata, check_range, missing
from .ephemeral import warn_if_production

__all__ = ["InMemoryBlobStore"]


class _World:
    """The data, apart from the adapter: several adapters may show one world."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[BlobInfo, bytes]] = {}
        self.names: list[str] = []


class InMemoryBlobStore(BlobStore):
    """A BlobStore that lives as long as the process: for tests and for trying things out. It does hold every blob."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        warn_if_production(type(self).__name__)
        self._clock = clock or SystemClock()
        self._world = _World()

    @classmethod
    def sharing(cls, other: InMemoryBlobStore) -> Self:
        """Another client of the data of ``other``."""
        store = cls(clock=other._clock)
        store._world = other._world
        return store

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``memory://`` or ``memory://NAME``: adapters of one context and name share their data."""
        store = cls(clock=context.clock)
        store._world = context.shared(f"memory:blobs:{url.host}{url.path}", _World)
        return store

    async def put(
        self,
        name: str,
        data: bytes | AsyncIterator[bytes],
        *,
        if_match: str | None = None,
        create_only: bool = False,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> BlobInfo:
        check_key("blob name", name)
        kept = check_metadata(name, metadata)
        if isinstance(data, bytes | bytearray | memoryview):
            content = bytes(data)
        else:
            content = b"".join([chunk async for chunk in data])
        found = self._world.blobs.get(name)
        check_condition(name, None if found is None else found[0].etag, if_match, create_only)
        info = BlobInfo(
            name=name,
            size=len(content),
            etag=secrets.token_hex(16),
            modified_at=self._clock.now(),
            content_type=content_type,
            metadata=kept,
        )
        if found is None:
            insort(self._world.names, name)
        self._world.blobs[name] = (info, content)
        return _copy(info)

    async def info(self, name: str) -> BlobInfo | None:
        check_key("blob name", name)
        found = self._world.blobs.get(name)
        return None if found is None else _copy(found[0])

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        check_key("blob name", name)
        check_range(start, length)
        found = self._world.blobs.get(name)
        if found is None:
            raise missing(name)
        content = found[1]
        end = len(content) if length is None else min(len(content), start + length)
        for position in range(start, end, CHUNK):
            yield content[position : min(end, position + CHUNK)]

    async def delete(self, name: str, *, if_match: str | None = None) -> bool:
        check_key("blob name", name)
        found = self._world.blobs.get(name)
        check_condition(name, None if found is None else found[0].etag, if_match, False)
        if found is None:
            return False
        del self._world.blobs[name]
        del self._world.names[bisect_left(self._world.names, name)]
        return True

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        check_limit(limit)
        names = self._world.names
        start = max(bisect_left(names, prefix), 0 if cursor is None else bisect_right(names, cursor))
        page: list[BlobInfo] = []
        for index in range(start, len(names)):
            if not names[index].startswith(prefix):
                break
            if len(page) == limit:
                return BlobPage(page, page[-1].name)
            page.append(_copy(self._world.blobs[names[index]][0]))
        return BlobPage(page)


def _copy(info: BlobInfo) -> BlobInfo:
    return BlobInfo(
        name=info.name,
        size=info.size,
        etag=info.etag,
        modified_at=info.modified_at,
        content_type=info.content_type,
        metadata=dict(info.metadata),
    )
