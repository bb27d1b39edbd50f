"""BlobStore: large binary values by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping

import msgspec

from .port import Port

__all__ = ["BlobInfo", "BlobPage", "BlobStore"]


class BlobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a blob without reading it. ``modified_at`` is Unix time; ``etag`` changes with every write."""

    name: str
    size: int
    etag: str
    modified_at: float
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = {}


class BlobPage(msgspec.Struct, frozen=True):
    """Blobs of one page in the order of their names; ``cursor`` continues after them, None at the end."""

    blobs: list[BlobInfo]
    cursor: str | None = None


class BlobStore(Port):
    """Bytes by name. A write is seen whole or not at all;
    a reader that has begun keeps reading the version it began.
    """

    @abstractmethod
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
        """Store a blob, from bytes or from chunks that are never all held in memory.

        Raises BlobConflictError when ``if_match`` is not the current etag (or the blob does not exist), or when
        ``create_only`` meets one; nothing is changed then, nor when the iterator raises.
        """

    @abstractmethod
    async def info(self, name: str) -> BlobInfo | None:
        """What is known of the blob, or None when it does not exist."""

    @abstractmethod
    def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from ``start`` on, at most ``length``, in chunks of up to 1 MiB.

        Raises BlobNotFoundError at the first chunk; a ``start`` beyond the end yields nothing.
        """

    async def get(self, name: str) -> bytes:
        """The whole blob. Raises BlobNotFoundError."""
        return b"".join([chunk async for chunk in self.stream(name)])

    @abstractmethod
    async def delete(self, name: str, *, if_match: str | None = None) -> bool:
        """Delete; False when it was not there. Raises BlobConflictError when ``if_match`` is not the current etag."""

    @abstractmethod
    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        """Blobs whose names begin with ``prefix``, in code point order of their names."""
