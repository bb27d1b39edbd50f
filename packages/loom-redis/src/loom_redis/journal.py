"""A journal in Redis: one hash per stream, and one script that compares and appends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from loom.clock import Clock
from loom.errors import InvalidKeyError, JournalError, JournalGapError, PortError, StoreUnavailableError, TooLargeError
from loom.ports import Append, Appended, Head, JournalEntry, JournalStore, Snapshot
from loom.ports.journal import conflict
from loom.ports.port import check_key

from .adapter import RedisAdapter
from .channel import Argument
from .client import Redis
from .journal_records import (
    head_of,
    head_text,
    heads_of,
    pack_entry,
    pack_snapshot,
    unpack_entry,
    unpack_snapshot,
)
from .scripts import load_script
from .together import Together

__all__ = ["RedisJournalStore"]

# A stream is one hash: the head in "h", the fence in "f", the snapshot in "s" and its position in "p", the position
# through which it is trimmed in "t", and each entry under its position. Measured with entries of 345 bytes against a
# list, and against a Redis stream, each beside a head of its own. An append to the hash is one read and one write of
# one key: 4.2 us of the server's processor in batches of 200 (list 4.7). An entry costs 94 bytes beside its data (list
# 22, stream 79), and a stream with a single entry 0.7 KB (stream 4.5 KB: it reserves a page). Entries are read and
# trimmed by position in a time that grows with their number only.
_APPEND = load_script("journal_append")
_HEADS = load_script("journal_heads", writes=False)
_READ = load_script("journal_read", writes=False)
_SNAPSHOT = load_script("journal_snapshot")
_TRIM = load_script("journal_trim")

_MAX_DATA = 500_000_000
"""A value of Redis is at most 512 MB (``proto-max-bulk-len``); the rest leaves room for what stands before the data."""
_APPENDS = 256
"""Appends a script: other clients of the server wait for less than two milliseconds."""
_BYTES = 1 << 22
"""Bytes after which a script of appends, or of reading, is full."""
_HEADS_AT_ONCE = 500
_TRIM_AT_ONCE = 1000
_KEYS = 20_000
"""How many names of keys are remembered."""


class RedisJournalStore(RedisAdapter, JournalStore):
    """A JournalStore on Redis, as durable as the server's append-only file and ``wait_replicas`` make it.

    Appends of one call are one script; on a cluster one for each stream, all under way at once. A connection that is
    lost in the middle of an append is no failure: it is sent again, and tells by its id whether it had happened.
    """

    max_bytes = _MAX_DATA

    def __init__(self, redis: Redis, *, clock: Clock | None = None) -> None:
        """``clock`` is accepted as every adapter accepts it; a journal asks nobody for the time."""
        super().__init__(redis, clock=clock)
        self._one_slot = redis.options.mode != "cluster"
        self._index = redis.key("journal", "streams", "names")
        self._known_keys: dict[str, str] = {}
        self._under_way = 0
        self._together = Together(self._append_calls)

    async def append(self, append: Append) -> Appended:
        """See the port. While others are under way, those of one moment share a script: half the work of one each."""
        send = self._together if self._under_way else self.append_many
        self._under_way += 1
        try:
            [outcome] = await send([append])
        finally:
            self._under_way -= 1
        if isinstance(outcome, Appended):
            return outcome
        raise outcome

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        outcomes: list[Any] = [None] * len(appends)
        good: list[tuple[int, str, Append]] = []
        for n, append in enumerate(appends):
            try:
                check_key("entry_id", append.entry_id)
                key = self._key(append.stream)
            except InvalidKeyError as error:
                outcomes[n] = error
                continue
            if len(append.data) > _MAX_DATA:
                outcomes[n] = _too_large(append.stream, append.expected_seq + 1, len(append.data))
            elif not -1 << 63 <= append.fence < 1 << 63:
                outcomes[n] = JournalError(f"{append.stream}: a fence has less than 64 bits", stream=append.stream)
            else:
                good.append((n, key, append))
        if good:
            await self._append(good, outcomes)
        return outcomes

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        keys = [self._key(stream) for stream in streams]
        if len(keys) > 1 and self._one_slot:
            found: list[Any] = []
            for start in range(0, len(keys), _HEADS_AT_ONCE):
                found += await self._redis.run(_HEADS, keys[start : start + _HEADS_AT_ONCE], [], repeatable=True)
        else:
            found = await asyncio.gather(
                *(self._redis.call("HMGET", key, "h", "f", "p", key=key, repeatable=True) for key in keys)
            )
        return heads_of(found)

    async def read(self, stream: str, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        key, entries = self._key(stream), list[JournalEntry]()
        after, limit = max(0, after), max(0, limit)
        while len(entries) < limit:
            position = after + len(entries)
            found = await self._redis.run(_READ, [key], [position, limit - len(entries), _BYTES], repeatable=True)
            head, trimmed, snapshot_seq, records = found or (b"0:", b"0", b"0", [])
            end = head_of(head, None, None).seq
            if position < min(end, int(trimmed)):
                raise _gap(stream, position + 1, int(snapshot_seq))
            entries += [unpack_entry(stream, seq, record) for seq, record in enumerate(records, position + 1)]
            if after + len(entries) >= end:
                break
        return entries

    async def read_snapshot(self, stream: str) -> Snapshot | None:
        key = self._key(stream)
        seq, record = await self._redis.call("HMGET", key, "p", "s", key=key, repeatable=True)
        return None if seq is None else Snapshot(int(seq), unpack_snapshot(stream, int(seq), record))

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        key = self._key(stream)
        if len(snapshot.data) > _MAX_DATA:
            raise _too_large(stream, snapshot.seq, len(snapshot.data))
        arguments: list[Argument] = [snapshot.seq, pack_snapshot(snapshot)]
        taken = await self._redis.run(_SNAPSHOT, [key], arguments, repeatable=True)
        if isinstance(taken, bytes):
            raise JournalError(
                f"{stream}: a snapshot at {snapshot.seq} lies beyond the head at {head_of(taken, None, None).seq}",
                stream=stream,
                seq=snapshot.seq,
            )
        return bool(taken)

    async def trim(self, stream: str, through: int) -> int:
        """See the port. After a connection was lost in the middle, those deleted before are not counted."""
        key = self._key(stream)
        if through < 0:
            raise ValueError(f"trim(through={through}): positions are not negative")
        count = 0
        while True:
            deleted: int = await self._redis.run(_TRIM, [key], [through, _TRIM_AT_ONCE], repeatable=True)
            count += deleted
            if deleted < _TRIM_AT_ONCE:
                return count

    async def streams(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        # Members of one score lie in the order of their bytes, which in UTF-8 is that of their code points.
        low = max(f"({after}" if after else "-", f"[{prefix}" if prefix else "-", key=lambda bound: bound[1:])
        page: list[str] = []
        while len(page) < limit:
            found = await self._redis.call(
                "ZRANGEBYLEX", self._index, low, "+", "LIMIT", 0, limit - len(page), key=self._index, repeatable=True
            )
            names = [name.decode() for name in found]
            within = [name for name in names if name.startswith(prefix)]
            page += within if self._one_slot else await self._written(within)
            if not names or len(within) < len(names):
                break
            low = f"({names[-1]}"
        return page

    async def _append_calls(self, calls: list[Sequence[Append]]) -> list[Appended | PortError]:
        return await self.append_many([append for call in calls for append in call])

    async def _drain(self) -> None:
        await self._together.drain()

    async def _append(self, good: Sequence[tuple[int, str, Append]], outcomes: list[Any]) -> None:
        """Fill in the outcomes. Raises StoreUnavailableError when every script has failed."""
        failures: list[StoreUnavailableError] = []
        succeeded = False

        async def send(groups: Iterator[list[tuple[int, str, Append]]]) -> None:
            nonlocal succeeded
            for group in groups:
                try:
                    results = await self._compare_and_append(group)
                    succeeded = True
                except StoreUnavailableError as error:
                    results = [error] * len(group)
                    failures.append(error)
                for (n, _, _), result in zip(group, results, strict=True):
                    outcomes[n] = result

        if self._one_slot:
            # One after the other: what a failed script is tried again with must not be overtaken by the next.
            await send(_groups(good))
        else:
            by_key: dict[str, list[tuple[int, str, Append]]] = {}
            for item in good:
                by_key.setdefault(item[1], []).append(item)
            try:
                await self._register([item[2].stream for item in good if item[2].expected_seq == 0])
            except StoreUnavailableError as error:
                raise _known(error) from error
            await asyncio.gather(*(send(_groups(items)) for items in by_key.values()))
        if failures and not succeeded:
            raise next((error for error in failures if error.unknown), failures[0])

    async def _compare_and_append(self, group: Sequence[tuple[int, str, Append]]) -> list[Appended | PortError]:
        keys = [key for _, key, _ in group]
        arguments: list[Argument] = [len(group)]
        names: list[Argument] = []
        for _, _, append in group:
            seq = append.expected_seq + 1
            head = head_text(seq, append.entry_id)
            expected = head_text(append.expected_seq, append.expected_entry_id)
            arguments += (expected, head, append.fence, seq, pack_entry(head, append.fence, append.data))
            if expected == b"0:":
                names.append(append.stream)
        if self._one_slot:
            keys.append(self._index)
        results = await self._redis.run(_APPEND, keys, [*arguments, *names], repeatable=True)
        if results == 1:
            return [Appended(append.expected_seq + 1) for _, _, append in group]
        return [self._outcome(append, result) for (_, _, append), result in zip(group, results, strict=True)]

    def _outcome(self, append: Append, result: Any) -> Appended | PortError:
        if isinstance(result, int):
            return Appended(append.expected_seq + 1, duplicate=result == 2)
        if isinstance(result, bytes):
            return StoreUnavailableError(
                f"{append.stream}: its key in Redis cannot be used ({result.decode(errors='replace')}); "
                "another namespace keeps Loom's keys apart from those of others",
                stream=append.stream,
            )
        refusal = conflict(append, head_of(*result))
        assert refusal is not None, "the script compares as the port does"
        return refusal

    async def _register(self, streams: Sequence[str]) -> None:
        """Name new streams in the index, which lies in another slot: before they have a head, so none is missed."""
        if streams:
            members = [part for stream in streams for part in (0, stream)]
            await self._redis.call("ZADD", self._index, *members, key=self._index, repeatable=True)

    async def _written(self, streams: Sequence[str]) -> list[str]:
        heads = await self.heads(streams)
        return [stream for stream, head in zip(streams, heads, strict=True) if head.seq]

    def _key(self, stream: str) -> str:
        """The key of a stream. Raises InvalidKeyError."""
        key = self._known_keys.get(stream)
        if key is None:
            check_key("stream", stream)
            if len(self._known_keys) >= _KEYS:
                self._known_keys.clear()
            key = self._known_keys[stream] = self._redis.key("journal", stream, "log")
        return key


def _groups(items: Sequence[tuple[int, str, Append]]) -> Iterator[list[tuple[int, str, Append]]]:
    group: list[tuple[int, str, Append]] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item[2].data)
        if len(group) == _APPENDS or size >= _BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _known(error: StoreUnavailableError) -> StoreUnavailableError:
    """The same error for appends that were never sent."""
    return StoreUnavailableError(str(error))


def _too_large(stream: str, seq: int, size: int) -> TooLargeError:
    return TooLargeError(
        f"{stream}: {size} bytes at {seq} are more than the {_MAX_DATA} that a value of Redis takes",
        stream=stream,
        seq=seq,
        size=size,
    )


def _gap(stream: str, seq: int, snapshot_seq: int) -> JournalGapError:
    return JournalGapError(
        f"{stream}: entry {seq} has been trimmed; read the snapshot at {snapshot_seq} and continue from there",
        stream=stream,
        seq=seq,
    )
