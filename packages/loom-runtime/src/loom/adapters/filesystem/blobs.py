"""Blobs as files in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from ...clock import Clock, SystemClock
from ...errors import LoomError, StoreUnavailableError
from ...plugins.urls import AdapterContext, LoomURL
from ...ports.blobs import BlobInfo, BlobPage, BlobStore
from ...ports.port import check_key
from ..blob_rules import CHUNK, check_condition, check_limit, check_metadata, check_range, missing
from ..file_lock import exclusively
from .blob_file import PartFile, Reader, info_at, sync_folder
from .names import SUFFIX, file_name, name_in

__all__ = ["FileBlobStore"]

T = TypeVar("T")

_LOCKS = 64
_STALE_SECONDS = 86_400.0
_THREADS = 8


class FileBlobStore(BlobStore):
    """A BlobStore in one folder of a local disk, shared by the processes of a host.

    A blob is written beside the others, synced, and renamed into place under a lock file; see ``blob_file`` for what
    a file holds. At most 1 MiB of a stream is held at a time.
    """

    def __init__(self, folder: str | Path, *, clock: Clock | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._parts = self.folder / ".parts"
        self._locks = self.folder / ".locks"
        self._clock = clock or SystemClock()
        self._threads: ThreadPoolExecutor | None = None

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``file:///var/lib/blobs``, absolute; ``sqlite:///loom.db``: ``loom.db.blobs`` beside the file."""
        if url.scheme == "sqlite":
            return cls((url.path.removeprefix("/") or "loom.db") + ".blobs", clock=context.clock)
        return cls(url.path or "/", clock=context.clock)

    async def start(self) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="loom-blobs")
            try:
                await self._in_thread(self._prepare)
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)

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
        part = PartFile(self._parts / secrets.token_hex(16))
        try:
            size = 0
            async for piece in _pieces(data):
                await self._in_thread(partial(part.write, piece))
                size += len(piece)
            info = BlobInfo(
                name=name,
                size=size,
                etag=secrets.token_hex(16),
                modified_at=self._clock.now(),
                content_type=content_type,
                metadata=kept,
            )
            await self._in_thread(lambda: self._commit(part, info, if_match, create_only))
        finally:
            part.discard()
        return info

    async def info(self, name: str) -> BlobInfo | None:
        check_key("blob name", name)
        return await self._in_thread(lambda: info_at(self.folder / file_name(name)))

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        check_key("blob name", name)
        check_range(start, length)
        reader = Reader(self.folder / file_name(name))
        try:
            await self._in_thread(lambda: _open(reader, name, start, length))
            while chunk := await self._in_thread(partial(reader.read, CHUNK)):
                yield chunk
        finally:
            reader.close()

    async def get(self, name: str) -> bytes:
        check_key("blob name", name)

        def read() -> bytes:
            reader = Reader(self.folder / file_name(name))
            try:
                _open(reader, name, 0, None)
                return reader.rest()
            finally:
                reader.close()

        return await self._in_thread(read)

    async def delete(self, name: str, *, if_match: str | None = None) -> bool:
        check_key("blob name", name)
        return await self._in_thread(lambda: self._delete(name, if_match))

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        check_limit(limit)
        return await self._in_thread(lambda: self._list(prefix, limit, cursor))

    def _prepare(self) -> None:
        for folder in (self.folder, self._parts, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        # What a killed process was writing; a day, because nothing tells a dead writer from a slow one.
        for part in self._parts.iterdir():
            try:
                if part.stat().st_mtime < time.time() - _STALE_SECONDS:
                    part.unlink()
            except FileNotFoundError:
                continue

    def _commit(self, part: PartFile, info: BlobInfo, if_match: str | None, create_only: bool) -> None:
        part.finish(info)
        path = self.folder / file_name(info.name)
        with exclusively(self._lock(path)):
            found = info_at(path) if create_only or if_match is not None else None
            check_condition(info.name, None if found is None else found.etag, if_match, create_only)
            part.place(path)
        sync_folder(self.folder)

    def _delete(self, name: str, if_match: str | None) -> bool:
        path = self.folder / file_name(name)
        with exclusively(self._lock(path)):
            if if_match is not None:
                found = info_at(path)
                check_condition(name, None if found is None else found.etag, if_match, False)
            try:
                path.unlink()
            except FileNotFoundError:
                return False
        sync_folder(self.folder)
        return True

    def _list(self, prefix: str, limit: int, cursor: str | None) -> BlobPage:
        names: list[str] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX):
                    continue
                name = name_in(entry.name)
                if name is None:
                    info = info_at(self.folder / entry.name)
                    name = None if info is None else info.name
                if name is not None and name.startswith(prefix) and (cursor is None or name > cursor):
                    names.append(name)
        names.sort()
        page = []
        for name in names[:limit]:
            info = info_at(self.folder / file_name(name))
            if info is not None:
                page.append(info)
        return BlobPage(page, names[limit - 1] if len(names) > limit else None)

    def _lock(self, path: Path) -> Path:
        return self._locks / f"{sum(path.name.encode()) % _LOCKS:02d}"

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run ``work`` beside the event loop. A cancelled caller waits for its end: nothing goes on behind its back."""
        if self._threads is None:
            raise StoreUnavailableError(f"{self.folder} is not open; call start() first", folder=str(self.folder))
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise
        except OSError as error:
            raise _unavailable(self.folder, error) from error


def _open(reader: Reader, name: str, start: int, length: int | None) -> None:
    try:
        reader.open(start, length)
    except FileNotFoundError:
        raise missing(name) from None


async def _pieces(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data in pieces worth a trip to a thread, and none longer than a chunk beyond what the iterator gives."""
    if isinstance(data, bytes | bytearray | memoryview):
        yield bytes(data)
        return
    held = bytearray()
    async for chunk in data:
        held += chunk
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _unavailable(folder: Path, error: OSError) -> LoomError:
    return StoreUnavailableError(
        f"{folder}: {error.strerror or error}; the folder must be on a working, writable disk with room left",
        folder=str(folder),
    )
