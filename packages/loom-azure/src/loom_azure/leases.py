"""Leases on blobs: while one lasts, Azure lets nobody write or delete the blob who does not name it."""

from __future__ import annotations

import uuid

import msgspec
from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import BlobLeaseClient

from loom.adapters.blob_rules import missing
from loom.errors import BlobConflictError

from .failures import failure_of
from .session import Session

__all__ = ["BlobLease", "acquire", "release", "renew"]

_SHORTEST, _LONGEST = 15, 60


class BlobLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease that was taken: pass it to ``put`` and ``delete``. ``seconds`` is None for one that does not end."""

    name: str
    id: str
    seconds: int | None


async def acquire(session: Session, name: str, path: str, seconds: int | None) -> BlobLease:
    """See AzureBlobStore.lease. A try whose answer was lost is made again under the same id, and finds itself."""
    if seconds is not None and not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(f"a lease lasts {_SHORTEST} to {_LONGEST} seconds, or None for one that does not end")
    lease = BlobLease(name=name, id=str(uuid.uuid4()), seconds=seconds)
    client = _client(session, lease, path)
    try:
        await session.run(lambda: client.acquire(lease_duration=-1 if seconds is None else seconds))
    except HttpResponseError as error:
        failure = failure_of(error)
        if failure.status == 404:
            raise missing(name) from None
        if failure.code.startswith("Lease"):
            raise BlobConflictError(
                f"blob {name[:80]!r} is leased by somebody else ({failure.code})", name=name
            ) from error
        raise
    return lease


async def renew(session: Session, lease: BlobLease, path: str) -> None:
    """See AzureBlobStore.renew_lease."""
    client = _client(session, lease, path)
    try:
        await session.run(client.renew)
    except HttpResponseError as error:
        failure = failure_of(error)
        if failure.status == 404:
            raise missing(lease.name) from None
        if failure.code.startswith("Lease"):
            raise BlobConflictError(
                f"the lease on blob {lease.name[:80]!r} is over ({failure.code}); take another", name=lease.name
            ) from error
        raise


async def release(session: Session, lease: BlobLease, path: str) -> bool:
    """See AzureBlobStore.release_lease."""
    client = _client(session, lease, path)
    try:
        await session.run(client.release)
    except HttpResponseError as error:
        failure = failure_of(error)
        if failure.status == 404 or failure.code.startswith("Lease"):
            return False
        raise
    return True


def _client(session: Session, lease: BlobLease, path: str) -> BlobLeaseClient:
    return BlobLeaseClient(session.blob(path), lease_id=lease.id)
