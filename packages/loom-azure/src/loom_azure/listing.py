"""Blobs in the order of their names, page by page.

Azure lists encoded names in their order, which is that of the names, except among those that were cut at one place:
these are gathered, and sorted by what stands in their metadata. Azure goes on only where a page of its own ended, so a
cursor holds that place and the last name given: what lies between is skipped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from azure.storage.blob import BlobProperties

from loom.errors import BlobError
from loom.ports import BlobInfo, BlobPage

from .names import decode, group_of, prefix_of
from .properties import info_of
from .session import Session

__all__ = ["list_blobs"]

_LARGEST_PAGE = 5000
# Whoever asks for one at a time would otherwise read a group of cut names from its beginning by as many requests.
_SMALLEST_PAGE = 100


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    marker: str
    last: str


class _Found(msgspec.Struct, frozen=True):
    """One blob, and the place from which Azure must be read to meet it, and whatever follows it, again."""

    info: BlobInfo
    marker: str


async def list_blobs(session: Session, root: str, prefix: str, limit: int, cursor: str | None) -> BlobPage:
    """One page of the blobs under ``root`` whose names begin with ``prefix``; see BlobStore.list."""
    begin = _Cursor("", "")
    if cursor is not None:
        try:
            begin = msgspec.json.decode(cursor, type=_Cursor)
        except msgspec.DecodeError:
            raise ValueError(f"{cursor[:80]!r} is no cursor of a page of this store") from None
    page: list[BlobInfo] = []
    place = begin.marker
    async for found in _in_order(
        session, root, prefix, min(max(limit + 1, _SMALLEST_PAGE), _LARGEST_PAGE), begin.marker
    ):
        if not found.info.name.startswith(prefix) or found.info.name <= begin.last:
            continue
        if len(page) == limit:
            return BlobPage(page, msgspec.json.encode(_Cursor(place, page[-1].name)).decode())
        page.append(found.info)
        place = found.marker
    return BlobPage(page)


async def _in_order(session: Session, root: str, prefix: str, size: int, marker: str) -> AsyncIterator[_Found]:
    """All blobs from Azure's page ``marker`` on, those that were cut in their places."""
    group: str | None = None
    start = marker
    gathered: list[_Found] = []
    async for place, encoded, properties in _as_listed(session, root, prefix, size, marker):
        cut = group_of(encoded)
        if gathered and cut != group:
            for found in sorted(gathered, key=lambda found: found.info.name):
                yield found
            gathered = []
        name = decode(encoded)
        if cut is None and name is None:
            continue  # another program's: no name of ours leads to it
        try:
            info = info_of(name, encoded, properties)
        except BlobError:
            if name is not None:
                raise
            continue  # looks like one of ours that was cut, but holds no name
        if cut is None:
            yield _Found(info, place)
        else:
            if not gathered:
                start = place
            group = cut
            # Whoever goes on within the group must read it from its beginning.
            gathered.append(_Found(info, start))
    for found in sorted(gathered, key=lambda found: found.info.name):
        yield found


async def _as_listed(
    session: Session, root: str, prefix: str, size: int, marker: str
) -> AsyncIterator[tuple[str, str, BlobProperties]]:
    """Each blob as Azure lists it, with the marker of its page and its encoded name below ``root``."""
    begins = root + prefix_of(prefix)
    while True:
        here = marker

        async def one_page() -> tuple[list[BlobProperties], str]:
            listed = session.container.list_blobs(
                name_starts_with=begins or None, include=["metadata"], results_per_page=size
            )
            pages: Any = listed.by_page(continuation_token=here or None)  # noqa: B023
            async for page in pages:
                return [blob async for blob in page], pages.continuation_token or ""
            return [], ""

        blobs, marker = await session.run(one_page)
        for blob in blobs:
            yield here, blob.name.removeprefix(root), blob
        if not marker:
            return
