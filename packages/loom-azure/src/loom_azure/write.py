"""One write of a blob: its blocks, its commit, and what became of it when the connection was cut."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobBlock, BlobProperties, ContentSettings
from azure.storage.blob.aio import BlobClient

from loom.adapters.blob_rules import check_condition
from loom.errors import BlobConflictError, StoreUnavailableError
from loom.ports import BlobInfo

from .failures import failure_of
from .properties import info_of, stored_properties, unquoted, write_id
from .session import Session
from .upload import SINGLE, Blocks, Progress, pieces

__all__ = ["Write", "matching", "put_blob"]

_ROUNDS = 5


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written. ``encoded`` is the name as it is encoded, ``path`` that below the namespace.

    ``id`` is the write's own: it is found again in the metadata of the version that this write made. ``lease`` is the
    id of a lease on the blob that the writer holds.
    """

    name: str
    encoded: str
    path: str
    if_match: str | None
    create_only: bool
    content_type: str
    metadata: dict[str, str]
    id: str
    lease: str | None = None

    @property
    def conditional(self) -> bool:
        """Whether the write asks for anything of what is there."""
        return self.create_only or self.if_match is not None


def matching(etag: str) -> dict[str, Any]:
    """The SDK's arguments for a request that only this version lets through."""
    return {"etag": f'"{etag}"', "match_condition": MatchConditions.IfNotModified}


async def put_blob(
    session: Session, write: Write, data: bytes | AsyncIterator[bytes], progress: Progress | None = None
) -> BlobInfo:
    """See AzureBlobStore.put. What the iterator raises is raised on, and nothing is changed then."""
    return await _Put(session, write, progress).run(data)


class _Put:
    def __init__(self, session: Session, write: Write, progress: Progress | None) -> None:
        self._session = session
        self._write = write
        self._progress = progress
        self._leased: dict[str, Any] = {} if write.lease is None else {"lease": write.lease}
        self._client: BlobClient = session.blob(write.path)
        stored = stored_properties(write.name, write.encoded, write.content_type, write.metadata, write.id)
        self._sent: dict[str, Any] = {
            "metadata": stored.metadata,
            "content_settings": ContentSettings(content_type=stored.content_type),
            **self._leased,
        }
        if write.create_only:
            self._sent["match_condition"] = MatchConditions.IfMissing
        elif write.if_match is not None:
            self._sent |= matching(write.if_match)

    async def run(self, data: bytes | AsyncIterator[bytes]) -> BlobInfo:
        replayable = isinstance(data, bytes | bytearray | memoryview)
        before: str | None = None
        for _ in range(_ROUNDS):
            blocks = Blocks(self._session, self._client, self._leased, self._progress)
            try:
                async with aclosing(pieces(data)) as source:
                    first = await anext(source)
                    if len(first) <= SINGLE:
                        info = await self._commit(bytes(first), len(first))
                        if self._progress is not None:
                            self._progress(info.size)
                        return info
                    if not replayable and not self._write.conditional:
                        before = await self._etag()
                    await blocks.add(first)
                    async for piece in source:
                        await blocks.add(piece)
                return await self._commit(await blocks.finish(), blocks.size)
            except _BlocksGone:
                found = await self._etag()
                check_condition(self._write.name, found, self._write.if_match, self._write.create_only)
                if not replayable and not self._write.conditional and found != before:
                    return self._superseded(blocks.size)
                if not replayable:
                    break
            finally:
                await blocks.abandon()
        raise StoreUnavailableError(
            f"blob {self._write.name[:80]!r} in {self._session.options.where}: others wrote it again and again while "
            "its blocks were on their way, and each commit drops the blocks of all; nothing was changed, put it again",
            name=self._write.name,
            container=self._session.options.container,
        )

    async def _commit(self, content: bytes | list[BlobBlock], size: int) -> BlobInfo:
        """Make it the blob's content, once, whatever becomes of the connection."""
        budget = self._session.budget()
        while True:
            try:
                answer = await self._session.once(lambda: self._request(content))
                return self._info(size, answer["etag"], answer["last_modified"].timestamp())
            except AzureError as error:
                failure = failure_of(error)
                refused, gone = _refuses(failure.status, failure.code), failure.code == "InvalidBlockList"
                if budget.unknown and (done := await self._done()) is not None:
                    return done
                if budget.unknown and (refused or gone):
                    raise self._unknown() from error
                if refused:
                    raise self._conflict(failure.status, failure.code) from error
                if gone:
                    raise _BlocksGone from error
                if isinstance(error, HttpResponseError) and failure.status in (400, 409, 413):
                    raise
                try:
                    await budget.another_try(failure, error)
                except StoreUnavailableError as told:
                    if not told.unknown or (done := await self._done()) is None:
                        raise
                    return done

    async def _request(self, content: bytes | list[BlobBlock]) -> dict[str, Any]:
        if isinstance(content, list):
            return await self._client.commit_block_list(content, **self._sent)
        overwrite = not self._write.create_only
        return await self._client.upload_blob(content, length=len(content), overwrite=overwrite, **self._sent)

    async def _done(self) -> BlobInfo | None:
        """What an earlier try of this write has made, or None when that cannot be seen."""
        try:
            found = await self._properties()
        except (AzureError, StoreUnavailableError):
            return None
        if found is None or write_id(found) != self._write.id:
            return None
        return info_of(self._write.name, self._write.encoded, found)

    async def _etag(self) -> str | None:
        found = await self._properties()
        return None if found is None else unquoted(found.etag)

    async def _properties(self) -> BlobProperties | None:
        try:
            return await self._session.run(self._client.get_blob_properties)
        except HttpResponseError as error:
            if failure_of(error).status == 404:
                return None
            raise

    def _superseded(self, size: int) -> BlobInfo:
        """What is said of a stream whose blocks another's commit has dropped, where nothing was asked of the order.

        It is as if this write had come just before the other one: both were under way, and nobody can tell. The stream
        cannot be read again, and an error would be untrue to a caller who wanted the last writer to win.
        """
        return self._info(size, f"superseded-{self._write.id}", time.time())

    def _info(self, size: int, etag: str, modified_at: float) -> BlobInfo:
        return BlobInfo(
            name=self._write.name,
            size=size,
            etag=unquoted(etag),
            modified_at=modified_at,
            content_type=self._write.content_type,
            metadata=dict(self._write.metadata),
        )

    def _unknown(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the connection to {self._session.options.where} was cut while {self._write.name[:80]!r} was written, and "
            "the blob is another's now; whether this write was made before that cannot be known, read it again",
            unknown=True,
            name=self._write.name,
            container=self._session.options.container,
        )

    def _conflict(self, status: int, code: str) -> BlobConflictError:
        name, write = self._write.name, self._write
        if write.lease is not None and code.startswith("Lease"):
            return BlobConflictError(f"blob {name[:80]!r}: the lease that was given is over ({code})", name=name)
        if write.create_only:
            return BlobConflictError(f"blob {name[:80]!r}: create_only, but it exists already", name=name)
        if write.if_match is None:
            return BlobConflictError(f"blob {name[:80]!r} is leased by another program ({code})", name=name)
        return BlobConflictError(
            f"blob {name[:80]!r}: if_match={write.if_match!r}, but it "
            f"{'does not exist' if status == 404 else 'was written by another since'}; read it again",
            name=name,
        )


class _BlocksGone(Exception):
    """Another write of the same blob was committed, which drops all blocks that are not in it."""


def _refuses(status: int, code: str) -> bool:
    return status == 412 or code == "BlobAlreadyExists" or (status == 404 and code == "BlobNotFound")
