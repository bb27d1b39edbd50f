"""Blob stores, each broken in one way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from loom.adapters.memory.blobs import InMemoryBlobStore
from loom.ports.blobs import BlobInfo, BlobPage

_PIECE = 2**20


class TearsReads(InMemoryBlobStore):
    """Reads each chunk of a stream from the version that is there by then."""

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        size = len(self._world.blobs[name][1])
        end = size if length is None else min(size, start + length)
        for position in range(start, end, _PIECE):
            yield self._world.blobs[name][1][position : min(end, position + _PIECE)]


class _Puts(InMemoryBlobStore):
    """A store whose mutants change how ``put`` treats its arguments."""

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
        return await self._put(name, data, if_match, create_only, content_type, metadata)

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        return await super().put(
            name, data, if_match=if_match, create_only=create_only, content_type=content_type, metadata=metadata
        )


class IgnoresEtags(_Puts):
    """Writes over whatever version is there."""

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        return await super()._put(name, data, None, create_only, content_type, metadata)


class CreateOnlyOverwrites(_Puts):
    """Takes ``create_only`` for a hint."""

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        return await super()._put(name, data, if_match, False, content_type, metadata)


class LosesMetadata(_Puts):
    """Stores the bytes and nothing else."""

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        return await super()._put(name, data, if_match, create_only, content_type, None)


class KeepsWhatAFailedStreamGave(_Puts):
    """Stores the chunks that came before the iterator raised."""

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        if isinstance(data, bytes):
            return await super()._put(name, data, if_match, create_only, content_type, metadata)
        held = bytearray()
        try:
            async for chunk in data:
                held += chunk
        finally:
            info = await super()._put(name, bytes(held), if_match, create_only, content_type, metadata)
        return info


class ChecksBeforeTheStream(_Puts):
    """Compares when an upload begins, and overwrites what was written until it ends."""

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        found = await self.info(name)
        if create_only and found is None:
            create_only = False
        if if_match is not None and found is not None and found.etag == if_match:
            if_match = None
        return await super()._put(name, data, if_match, create_only, content_type, metadata)


class TruncatesNames(_Puts):
    """Cuts a name to what a file system would take: two long ones become one."""

    async def _put(
        self, name: str, data: bytes | AsyncIterator[bytes], if_match: str | None, create_only: bool,
        content_type: str, metadata: Mapping[str, str] | None,
    ) -> BlobInfo:  # fmt: skip
        return await super()._put(name[:255], data, if_match, create_only, content_type, metadata)

    async def info(self, name: str) -> BlobInfo | None:
        found = await super().info(name[:255])
        return None if found is None else msgspec.structs.replace(found, name=name)

    async def get(self, name: str) -> bytes:
        return await super().get(name[:255])


class DeletesAnyVersion(InMemoryBlobStore):
    """Ignores the etag of a delete."""

    async def delete(self, name: str, *, if_match: str | None = None) -> bool:
        return await super().delete(name)


class PagesByOffset(InMemoryBlobStore):
    """Skips as many blobs as it has shown: those written or deleted before that place shift the rest."""

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        whole = (await super().list(prefix, limit=10**9)).blobs
        end = int(cursor or "0") + limit
        return BlobPage(whole[end - limit : end], str(end) if end < len(whole) else None)


class HidesWhatIsMissing(InMemoryBlobStore):
    """Reads nothing where there is nothing, and does not say so."""

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        with contextlib.suppress(Exception):
            async for chunk in super().stream(name, start=start, length=length):
                yield chunk


class IsNotDurable(InMemoryBlobStore):
    """Declares that it is, and keeps everything in the process."""

    async def close(self) -> None:
        self._world.blobs.clear()
        self._world.names.clear()
