"""JournalStore: append-only streams with a head, where one compare-and-append commits a turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import msgspec

from ..errors import FencedError, JournalConflictError, PortError
from .port import Port

__all__ = ["Append", "Appended", "Head", "JournalEntry", "JournalStore", "Snapshot", "conflict"]


class Head(msgspec.Struct, frozen=True, gc=False):
    """Where a stream stands. Never trimmed. A stream nobody wrote has ``Head()``.

    ``seq`` is the number of entries ever appended, so the newest entry's position (the first is 1); ``entry_id`` is
    that entry's id; ``fence`` the highest fence an append has carried; ``snapshot_seq`` the position of the newest
    durable snapshot, 0 for none.
    """

    seq: int = 0
    entry_id: str = ""
    fence: int = 0
    snapshot_seq: int = 0


class Append(msgspec.Struct, frozen=True, gc=False):
    """A request to add one entry after ``(expected_seq, expected_entry_id)``.

    ``entry_id`` is random and unique to this append; repeating the append with it is safe. ``expected_entry_id``
    must match as well as ``expected_seq``: it tells a store that lost its last writes from one that did not.
    """

    stream: str
    expected_seq: int
    expected_entry_id: str
    entry_id: str
    data: bytes
    fence: int = 0


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The entry is durable at ``seq``. ``duplicate`` is True when an earlier call with this entry_id had put it
    there.
    """

    seq: int
    duplicate: bool = False


class JournalEntry(msgspec.Struct, frozen=True, gc=False):
    """One entry as it was stored."""

    seq: int
    entry_id: str
    fence: int
    data: bytes


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """What the entries up to and including ``seq`` amount to."""

    seq: int
    data: bytes


class JournalStore(Port):
    """Append-only streams.

    Durability: what an append, ``write_snapshot`` or ``trim`` reported is kept as far as the adapter's declared
    durability says. Ordering: entries of one stream have gapless positions 1, 2, 3, … in the order of their appends;
    nothing is promised between streams. Atomicity: an append replaces the head and adds the entry in one step that
    no reader can see half done.
    """

    max_bytes: int | None = None
    """The most bytes that an entry or a snapshot may have; None where nothing but memory limits them."""

    async def append(self, append: Append) -> Appended:
        """Append one entry, or raise what ``append_many`` would have returned for it."""
        [outcome] = await self.append_many([append])
        if isinstance(outcome, Appended):
            return outcome
        raise outcome

    @abstractmethod
    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        """Append to several streams in one round trip; one outcome per append, in their order.

        Each append succeeds or fails for itself: a conflict of one never fails another. Several appends to one
        stream in a call are applied in their order. Per append:

        - the head is ``(expected_seq, expected_entry_id)`` and ``fence`` is not below the head's: the entry is
          added at ``expected_seq + 1``, the head becomes it, the head's fence becomes ``fence``; ``Appended``;
        - the entry at ``expected_seq + 1`` already has this ``entry_id``: nothing changes,
          ``Appended(duplicate=True)``, whatever was appended since and whatever the fence. After a trim past that
          position the duplicate is still recognised while it is the head, and is a conflict otherwise;
        - the head differs: ``JournalConflictError`` with the head found;
        - only the fence is too low: ``FencedError`` with the head found;
        - the entry is larger than the store takes (``max_bytes``): ``TooLargeError``.

        Raises StoreUnavailableError when the store failed as a whole; with ``unknown=True`` some or all of the
        appends may have taken effect and the caller must read the heads.
        """

    @abstractmethod
    async def heads(self, streams: Sequence[str]) -> list[Head]:
        """The heads of ``streams``, in their order, each at least as new as every append reported before the call."""

    async def head(self, stream: str) -> Head:
        """The head of one stream; ``Head()`` if nothing was ever appended."""
        [head] = await self.heads([stream])
        return head

    @abstractmethod
    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        """Up to ``limit`` entries at positions above ``after``, oldest first; empty at the end of the stream.

        Raises JournalGapError when the entry at ``after + 1`` was appended and has been trimmed: re-read the snapshot
        and read again from its position. Raises CorruptEntryError, naming stream and seq, when a stored entry cannot
        be read.
        """

    @abstractmethod
    async def read_snapshot(self, stream: str) -> Snapshot | None:
        """The newest snapshot, or None."""

    @abstractmethod
    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        """Make ``snapshot`` the stream's snapshot if it is newer than the one there; say whether it was taken.

        Snapshots only move forward: an older or equal position changes nothing and returns False. Raises JournalError
        when ``snapshot.seq`` lies beyond the head, TooLargeError when it has more than ``max_bytes``. The snapshot is
        durable before the head's ``snapshot_seq`` shows it.
        """

    @abstractmethod
    async def trim(self, stream: str, through: int) -> int:
        """Delete the entries at positions up to and including ``through``; return how many were deleted.

        Never passes the durable snapshot: ``through`` beyond ``snapshot_seq`` is lowered to it. The head stays.
        Raises ValueError for a negative position.
        """

    @abstractmethod
    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """Names of streams that begin with ``prefix`` and sort above ``after``, in code point order, up to ``limit``.

        Page with the last name of the page before; a stream that exists during the whole walk is listed exactly
        once, whatever is written meanwhile.
        """


def conflict(append: Append, head: Head) -> JournalConflictError | None:
    """The refusal that ``append`` earns at ``head``, or None. Adapters that compare in Python share it."""
    meets = (head.seq, head.entry_id) == (append.expected_seq, append.expected_entry_id)
    if meets and append.fence >= head.fence:
        return None
    where = {"stream": append.stream, "seq": append.expected_seq + 1}
    if not meets:
        return JournalConflictError(
            f"{append.stream}: expected the head at {append.expected_seq} ({append.expected_entry_id or 'empty'}), "
            f"found {head.seq} ({head.entry_id or 'empty'}); re-read the stream before appending",
            head=head,
            **where,
        )
    return FencedError(
        f"{append.stream}: the append's fence {append.fence} is below the head's {head.fence}; "
        "another owner has taken over",
        head=head,
        **where,
    )
