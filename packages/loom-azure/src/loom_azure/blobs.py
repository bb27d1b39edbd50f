"""AzureBlobStore: blobs in a container of Azure Blob Storage."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobProperties

from loom.adapters.blob_rules import check_condition, check_limit, check_metadata, check_range, missing
from loom.errors import BlobConflictError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import BlobInfo, BlobPage, BlobStore
from loom.ports.port import check_key

from .download import Downloads
from .facts import facts_of, public_access, soft_delete
from .failures import failure_of, unavailable
from .leases import BlobLease, acquire, release, renew
from .listing import list_blobs
from .names import encode
from .options import AzureOptions
from .properties import info_of
from .session import Session, not_started
from .signing import Signer
from .upload import Progress
from .write import Write, matching, put_blob

__all__ = ["AzureBlobStore"]

T = TypeVar("T")


class AzureBlobStore(BlobStore):
    """A BlobStore in one container, shared by all who may use that.

    A write is one request, or blocks and one commit, so that it is seen whole or not at all; its conditions are
    Azure's own, checked when it is committed. ``parallel`` blocks of 2 MiB are held of a stream on its way up, 256 KiB
    of one on its way down. Requests that were throttled or cut are tried again for ``retry_for`` seconds; whether a
    cut write was carried out is looked up by an id in the blob's metadata before anything is said of it. Names are
    encoded as ``loom_azure.names`` says. A reader keeps its version as long as its connection lasts; is that cut, and
    the blob written since, it gets StoreUnavailableError.
    """

    def __init__(self, options: AzureOptions, *, credential: AsyncTokenCredential | None = None) -> None:
        self.options = options
        self._credential = credential
        self._root = f"{encode(options.namespace)}/" if options.namespace else ""
        self._session: Session | None = None
        self._downloads: Downloads | None = None
        self._signer: Signer | None = None
        self._may_create = True

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``azblob://ACCOUNT/CONTAINER?…``; the options are those of AzureOptions."""
        store = cls(AzureOptions.from_url(url))
        store._may_create = context.create
        return store

    @property
    def session(self) -> Session:
        """The open container. Raises StoreUnavailableError before ``start`` and after ``close``."""
        if self._session is None:
            raise not_started(self.options)
        return self._session

    async def start(self) -> None:
        if self._session is not None:
            return
        session = Session(self.options, self._credential)
        try:
            if self.options.create and self._may_create:
                await self._make(session)
            await list_blobs(session, self._root, "", 1, None)
        except BaseException as error:
            await session.close()
            if isinstance(error, AzureError):
                raise unavailable(self.options, failure_of(error)) from None
            raise
        self._session, self._downloads, self._signer = session, Downloads(session), Signer(session)

    async def close(self) -> None:
        session, self._session, self._downloads, self._signer = self._session, None, None, None
        if session is not None:
            await session.close()

    async def facts(self) -> dict[str, str]:
        return await facts_of(self.session)

    async def soft_delete(self) -> int | None:
        """For how many days the account keeps what was deleted or overwritten, 0 for none; None: not shown."""
        return await soft_delete(self.session)

    async def public_access(self) -> str | None:
        """What anybody may read without a credential: ``""`` nothing, ``blob`` or ``container``; None: not shown."""
        return await public_access(self.session)

    async def put(
        self,
        name: str,
        data: bytes | AsyncIterator[bytes],
        *,
        if_match: str | None = None,
        create_only: bool = False,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        lease: BlobLease | None = None,
        progress: Progress | None = None,
    ) -> BlobInfo:
        """See BlobStore.put. Azure takes the write of a leased blob from the holder of ``lease`` only.

        ``progress`` is called on the event loop with the bytes that have arrived so far, after each block, and once for
        a blob of one request. It begins anew where another's commit has dropped the blocks.
        """
        check_key("blob name", name)
        if create_only and if_match is not None:
            check_condition(name, None, if_match, create_only)
        write = Write(
            name=name,
            encoded=encode(name),
            path=self._path(name),
            if_match=if_match,
            create_only=create_only,
            content_type=content_type,
            metadata=check_metadata(name, metadata),
            id=secrets.token_hex(16),
            lease=None if lease is None else lease.id,
        )
        return await self._told(name, lambda: put_blob(self.session, write, data, progress))

    async def info(self, name: str) -> BlobInfo | None:
        check_key("blob name", name)
        found = await self._told(name, lambda: self._properties(name))
        return None if found is None else info_of(name, encode(name), found)

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        check_key("blob name", name)
        check_range(start, length)
        if self._downloads is None:
            raise not_started(self.options)
        if length == 0:
            if await self.info(name) is None:
                raise missing(name)
            return
        pieces = self._downloads.read(self._path(name), start, length)
        try:
            async for piece in pieces:
                yield piece
        except HttpResponseError:
            raise missing(name) from None
        finally:
            await pieces.aclose()

    async def delete(self, name: str, *, if_match: str | None = None, lease: BlobLease | None = None) -> bool:
        """See BlobStore.delete. Azure lets the holder of ``lease`` only delete a leased blob."""
        check_key("blob name", name)
        return await self._told(name, lambda: self._delete(name, if_match, lease))

    async def lease(self, name: str, *, seconds: int | None = 60) -> BlobLease:
        """Keep everybody else from writing and deleting the blob, for 15 to 60 seconds, or until it is released (None).

        Anybody may read it meanwhile. Raises BlobNotFoundError when there is none of that name, BlobConflictError when
        somebody else holds a lease on it, ValueError for other durations.
        """
        check_key("blob name", name)
        return await self._told(name, lambda: acquire(self.session, name, self._path(name), seconds))

    async def renew_lease(self, lease: BlobLease) -> None:
        """Let it last its ``seconds`` from now. Raises BlobConflictError when it is over, BlobNotFoundError."""
        await self._told(lease.name, lambda: renew(self.session, lease, self._path(lease.name)))

    async def release_lease(self, lease: BlobLease) -> bool:
        """Let others write at once. False when it was over, or the blob is gone."""
        return await self._told(lease.name, lambda: release(self.session, lease, self._path(lease.name)))

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        check_limit(limit)
        return await self._told(prefix, lambda: list_blobs(self.session, self._root, prefix, limit, cursor))

    async def signed_url(
        self, name: str, *, seconds: float = 3600, write: bool = False, content_disposition: str | None = None
    ) -> str:
        """A URL by which anybody can GET the blob for ``seconds``; with ``write``, PUT it instead.

        Nothing is asked about the blob: it need not exist. A PUT needs the header ``x-ms-blob-type: BlockBlob``.
        ``content_disposition`` (``attachment; filename="report.pdf"``) is what the reader's browser is told. By an
        account key it is made here; by an identity with a key that Azure delegates to it, which needs the role Storage
        Blob Delegator on the account, and at most 7 days. Whoever holds the URL needs nothing else: treat it as a
        password. Raises ConfigurationError for a store that signs in by SAS, and ValueError for other durations.
        """
        check_key("blob name", name)
        if self._signer is None:
            raise not_started(self.options)
        signer = self._signer
        return await self._told(
            name,
            lambda: signer.url(self._path(name), seconds, write=write, content_disposition=content_disposition),
        )

    def _path(self, name: str) -> str:
        return self._root + encode(name)

    async def _make(self, session: Session) -> None:
        try:
            await session.run(session.container.create_container)
        except ResourceExistsError:
            return

    async def _properties(self, name: str) -> BlobProperties | None:
        client = self.session.blob(self._path(name))
        try:
            return await self.session.run(client.get_blob_properties)
        except HttpResponseError as error:
            if failure_of(error).status == 404:
                return None
            raise

    async def _delete(self, name: str, if_match: str | None, lease: BlobLease | None) -> bool:
        session = self.session
        client = session.blob(self._path(name))
        condition: dict[str, Any] = {} if if_match is None else matching(if_match)
        if lease is not None:
            condition["lease"] = lease.id
        budget = session.budget()
        try:
            await session.run(lambda: client.delete_blob(delete_snapshots="include", **condition), budget)
        except HttpResponseError as error:
            failure = failure_of(error)
            if failure.status not in (404, 412):
                raise
            if budget.unknown:
                raise StoreUnavailableError(
                    f"the connection to {self.options.where} was cut while {name[:80]!r} was deleted, and the blob is "
                    "not there as it was; whether this call deleted it cannot be known",
                    unknown=True,
                    container=self.options.container,
                    name=name,
                ) from error
            if failure.code.startswith("Lease") or (failure.status == 412 and if_match is None):
                raise BlobConflictError(f"blob {name[:80]!r} is leased by another program", name=name) from error
            check_condition(name, None if failure.status == 404 else f"not {if_match}", if_match, False)
            return False
        return True

    async def _told(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work; what is left of the SDK's errors becomes Loom's."""
        try:
            return await work()
        except ResourceExistsError as error:
            raise BlobConflictError(
                f"blob {name[:80]!r}: {failure_of(error).code}: another program's blob is in the way", name=name
            ) from error
        except AzureError as error:
            failure = failure_of(error)
            if failure.status == 412 and failure.code.startswith("Lease"):
                raise BlobConflictError(f"blob {name[:80]!r} is leased by another program", name=name) from error
            raise unavailable(self.options, failure) from error
