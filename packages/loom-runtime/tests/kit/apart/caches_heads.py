"""A journal that is right within a process, and answers from what the process knows when another has gone on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from loom.adapters.sqlite.journal import SqliteJournalStore
from loom.errors import PortError
from loom.ports.journal import Append, Appended, Head, Snapshot

Key = tuple[Path, str]
T = TypeVar("T")


class CachesHeads(SqliteJournalStore):
    """Keeps the heads that it has read, for all clients of the process, until one of them writes to the stream."""

    met: ClassVar[dict[Key, Head]] = {}
    writing: ClassVar[Counter[Key]] = Counter()
    written: ClassVar[Counter[Key]] = Counter()

    async def heads(self, streams: Sequence[str]) -> list[Head]:
        keys = [(self._database.path, stream) for stream in streams]
        known = [self.met.get(key) for key in keys]
        # What is being written may be read as it was before, and then be there before the reading has ended.
        before = [-1 if self.writing[key] else self.written[key] for key in keys]
        heads = await super().heads(streams) if None in known else []
        for key, count, head in zip(keys, before, heads, strict=False):
            if not self.writing[key] and self.written[key] == count:
                self.met.setdefault(key, head)
        return [old or new for old, new in zip_longest(known, heads)]

    async def append_many(self, appends: Sequence[Append]) -> list[Appended | PortError]:
        return await self._write({append.stream for append in appends}, super().append_many(appends))

    async def write_snapshot(self, stream: str, snapshot: Snapshot) -> bool:
        return await self._write({stream}, super().write_snapshot(stream, snapshot))

    async def _write(self, streams: set[str], call: Coroutine[Any, Any, T]) -> T:
        keys = [(self._database.path, stream) for stream in streams]
        for key in keys:
            self.met.pop(key, None)
        self.writing.update(keys)
        self.written.update(keys)
        # Shielded, because what is cancelled is written all the same, and must not be read over meanwhile.
        task = asyncio.ensure_future(call)
        task.add_done_callback(lambda _: self.writing.subtract(keys))
        return await asyncio.shield(task)
