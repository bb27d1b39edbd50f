"""A cell: one stream that is active in this host, its mailbox, and its place in the journal."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import JournalGapError
from ..ports import Append, Head, Snapshot
from .entries import Event, decode_entry, encode_entry
from .job import Job
from .messages import shard_of

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Cell"]

_PAGE = 500

T = TypeVar("T")


class Cell(ABC):
    """The base of actors and runs in memory.

    ``head`` is where this cell believes the stream to stand; only its own appends move it. A cell that meets a
    conflict retires: it commits nothing more, and its jobs go to whoever owns the stream now.
    """

    __slots__ = ("head", "host", "retired", "shard", "stream", "used_at")

    def __init__(self, host: Host, stream: str) -> None:
        self.host = host
        self.stream = stream
        self.shard = shard_of(stream, host.options.shards)
        self.head = Head()
        self.retired = False
        self.used_at = host.clock.monotonic()

    @abstractmethod
    def deliver(self, job: Job) -> None:
        """Take a request; its answer goes through ``host.answer``. Never blocks, never raises."""

    @abstractmethod
    def resume(self) -> None:
        """Activate, and go on with what the journal says is unfinished."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether work is under way that a stopping host should let finish."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether nothing is under way, so that the cell may leave memory."""

    @property
    def settled(self) -> bool:
        """Whether what recovery has resumed has got through."""
        return self.idle

    @abstractmethod
    async def deactivate(self) -> None:
        """Leave memory in good order. Best effort."""

    async def append(self, events: list[Event]) -> str:
        """Commit one entry after the head; its id. Fails as ``Committer.append`` does, and then the head stays."""
        entry_id = self.host.ids.next()
        await self.append_as(entry_id, events)
        return entry_id

    async def append_as(self, entry_id: str, events: list[Event]) -> None:
        """Commit one entry under an id made before."""
        head, host = self.head, self.host
        fence = host.placement.fence(self.stream, self.shard)
        data = encode_entry(events, host.codecs)
        await host.committer.append(Append(self.stream, head.seq, head.entry_id, entry_id, data, fence))
        self.head = Head(head.seq + 1, entry_id, fence, head.snapshot_seq)

    async def history(self, snapshot: Snapshot | None, head: Head) -> AsyncIterator[tuple[int, list[Event]]]:
        """The decoded entries after ``snapshot`` up to ``head``, in order.
        Raises JournalGapError, CorruptEntryError.
        """
        after = 0 if snapshot is None else snapshot.seq
        while after < head.seq:
            entries = await self.host.journal.read(self.stream, after=after, limit=min(_PAGE, head.seq - after))
            if not entries:
                raise JournalGapError(
                    f"{self.stream}: the head is at seq {head.seq} but entries above {after} can't be read",
                    stream=self.stream,
                    seq=after + 1,
                )
            for entry in entries:
                yield entry.seq, decode_entry(self.stream, entry.seq, entry.data, self.host.codecs)
            after = entries[-1].seq

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine of this cell in the host's background."""
        return self.host.background.spawn(coroutine, name)
