"""Blobs on their way up: in one request where they are small, in blocks that travel at once where they are not."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient

from loom.errors import TooLargeError

from .session import Session

__all__ = ["SINGLE", "Blocks", "Progress", "pieces"]

Progress = Callable[[int], None]
"""Is told how many bytes Azure has so far."""

SINGLE = 2**20
"""Bytes up to which a blob goes in one request."""

_BLOCK = 2 * 2**20
_BLOCKS_OF_ONE_SIZE = 5_000
_MOST_BLOCKS = 50_000
_SLICE = 2**16


def _block_size(number: int) -> int:
    """Bytes of the block ``number``: they double every 5,000, so that Azure's 50,000 blocks hold 10 TiB."""
    return _BLOCK << (number // _BLOCKS_OF_ONE_SIZE)


async def pieces(data: bytes | AsyncIterator[bytes]) -> AsyncGenerator[bytes | bytearray, None]:
    """The data in blocks; the last may be smaller, and empty data is one empty block. Holds one block at a time."""
    number = 0
    if isinstance(data, bytes | bytearray | memoryview):
        view, start = memoryview(data).cast("B"), 0
        while start < len(view) or not number:
            yield bytes(view[start : start + _block_size(number)])
            start += _block_size(number)
            number += 1
        return
    held = bytearray()
    async for chunk in data:
        rest = memoryview(chunk)
        while rest:
            room = _block_size(number) - len(held)
            held += rest[:room]
            rest = rest[room:]
            if len(held) == _block_size(number):
                yield held
                held = bytearray()
                number += 1
    if held or not number:
        yield held


class Blocks:
    """The uncommitted blocks of one write. Nobody sees them before they are committed; Azure drops them after a week.

    Of ``parallel`` blocks at most one is waited for when another is added. ``abandon`` ends it in whatever state it is.
    ``leased`` names the writer's lease to the SDK; ``progress`` is told after each block.
    """

    def __init__(
        self, session: Session, client: BlobClient, leased: Mapping[str, Any], progress: Progress | None
    ) -> None:
        self._session = session
        self._client = client
        self._leased = leased
        self._progress = progress
        self._arrived = 0
        # All block ids of a blob must be of one length, those of other writers under way included.
        self._write = secrets.token_hex(8)
        self._ids: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.size = 0

    async def add(self, piece: bytes | bytearray) -> None:
        """Send a block, at the latest when there is room for another. Raises what sending an earlier one raised."""
        if len(self._ids) == _MOST_BLOCKS:
            raise TooLargeError(f"the blob is larger than {_MOST_BLOCKS} blocks hold ({self.size} bytes)")
        while len(self._tasks) >= self._session.options.parallel:
            await self._wait(asyncio.FIRST_COMPLETED)
        number = f"{self._write}-{len(self._ids):05d}"
        self._ids.append(number)
        self.size += len(piece)
        self._tasks.add(asyncio.create_task(self._send(number, piece)))

    async def finish(self) -> list[BlobBlock]:
        """Wait until all blocks are there. Returns the list to commit."""
        while self._tasks:
            await self._wait(asyncio.FIRST_COMPLETED)
        return [BlobBlock(block_id=number) for number in self._ids]

    async def abandon(self) -> None:
        """Stop sending."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, number: str, piece: bytes | bytearray) -> None:
        await self._session.run(lambda: self._stage(number, piece))
        self._arrived += len(piece)
        if self._progress is not None:
            self._progress(self._arrived)

    async def _stage(self, number: str, piece: bytes | bytearray) -> None:
        slices: Any = _slices(piece)  # the SDK passes it on; its annotation knows iterators that block only
        await self._client.stage_block(number, slices, length=len(piece), **self._leased)

    async def _wait(self, when: str) -> None:
        done, self._tasks = await asyncio.wait(self._tasks, return_when=when)
        for task in done:
            task.result()


async def _slices(piece: bytes | bytearray) -> AsyncIterator[bytes]:
    """A block bit by bit: given bytes or a file, the transport copies all of it, and holds up the loop meanwhile."""
    view = memoryview(piece)
    for start in range(0, len(view), _SLICE):
        yield bytes(view[start : start + _SLICE])
