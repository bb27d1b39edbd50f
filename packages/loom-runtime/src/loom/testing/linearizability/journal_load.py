"""Concurrent use of a journal, by a plan that a seed repeats."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import msgspec

from ...errors import JournalConflictError, JournalGapError, StoreUnavailableError
from ...ports.journal import Append, Appended, Head, JournalStore, Snapshot
from .journal import RecordingJournal
from .turns import Turns

__all__ = ["drive_journal"]


async def drive_journal(
    clients: Sequence[RecordingJournal],
    streams: Sequence[str],
    *,
    seed: int,
    calls: int = 40,
    fencing: bool = True,
    cancel: float = 0.05,
    prefix: str = "c",
) -> None:
    """Let every client make ``calls`` calls, all at once, on ``streams``, which nobody has written before.

    They append behind the head that they believe in, repeat earlier appends, read, snapshot and trim; some carry a
    higher or a lower fence (with ``fencing``), and a share ``cancel`` of the calls is cancelled half way. What each
    client does next depends on ``seed`` and on the answers that it got. Entry ids begin with ``prefix``: other loads on
    the same streams need another.
    """
    await asyncio.gather(
        *(
            _Client(f"{prefix}{n}", client, streams, random.Random(f"{seed}-{n}"), fencing, cancel).run(calls)
            for n, client in enumerate(clients)
        )
    )


class _Client:
    def __init__(
        self,
        name: str,
        store: JournalStore,
        streams: Sequence[str],
        dice: random.Random,
        fencing: bool,
        cancel: float,
    ) -> None:
        self.name = name
        self.store = store
        self.streams = streams
        self.dice = dice
        self.fencing = fencing
        self.turns = Turns(dice, cancel)
        self.heads = {stream: Head() for stream in streams}
        self.sent: list[Append] = []

    async def run(self, calls: int) -> None:
        actions: dict[Callable[[str], Coroutine[Any, Any, None]], int] = {
            self.append: 40, self.look: 20, self.read: 12, self.append_everywhere: 8, self.repeat: 8,
            self.write_snapshot: 5, self.read_snapshot: 4, self.trim: 3,
        }  # fmt: skip
        for _ in range(calls):
            [action] = self.dice.choices(list(actions), list(actions.values()))
            with contextlib.suppress(StoreUnavailableError, JournalGapError):
                await self.turns.take(partial(action, self.dice.choice(self.streams)))

    def next_append(self, stream: str) -> Append:
        head = self.heads[stream]
        change = self.dice.choice([0, 0, 0, 0, 0, 1, -1]) if self.fencing else 0
        number = len(self.sent)
        append = Append(
            stream, head.seq, head.entry_id, f"{self.name}-{number}", b"%d" % number, max(0, head.fence + change)
        )
        self.sent.append(append)
        return append

    def learn(self, append: Append, outcome: object) -> None:
        if isinstance(outcome, JournalConflictError):
            self.heads[append.stream] = outcome.head
        elif isinstance(outcome, Appended) and not outcome.duplicate:
            before = self.heads[append.stream]
            self.heads[append.stream] = msgspec.structs.replace(
                before, seq=outcome.seq, entry_id=append.entry_id, fence=append.fence
            )

    async def append(self, stream: str) -> None:
        append = self.next_append(stream)
        [outcome] = await self.store.append_many([append])
        self.learn(append, outcome)

    async def append_everywhere(self, stream: str) -> None:
        appends = [self.next_append(one) for one in self.streams]
        for append, outcome in zip(appends, await self.store.append_many(appends), strict=True):
            self.learn(append, outcome)

    async def repeat(self, stream: str) -> None:
        if self.sent:
            await self.store.append_many([self.dice.choice(self.sent[-6:])])

    async def look(self, stream: str) -> None:
        self.heads.update(zip(self.streams, await self.store.heads(self.streams), strict=True))

    async def read(self, stream: str) -> None:
        head = self.heads[stream]
        await self.store.read(stream, self.dice.choice([head.snapshot_seq, max(0, head.seq - 2), 0]))

    async def write_snapshot(self, stream: str) -> None:
        seq = self.heads[stream].seq - self.dice.randint(0, 2)
        if seq > 0:
            await self.store.write_snapshot(stream, Snapshot(seq, f"{self.name}-{seq}".encode()))

    async def read_snapshot(self, stream: str) -> None:
        await self.store.read_snapshot(stream)

    async def trim(self, stream: str) -> None:
        await self.store.trim(stream, max(0, self.heads[stream].snapshot_seq - self.dice.randint(0, 1)))
