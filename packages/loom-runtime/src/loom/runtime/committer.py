"""Group commit: appends of one moment go to the store together, and each learns its own outcome.

Whoever appends while nothing is under way leads: it waits for the others of its moment and carries the batch itself,
which saves a task and a turn of the event loop when there is nobody else. Later batches are carried by the committer.
"""

from __future__ import annotations

import asyncio

from ..clock import Clock
from ..errors import JournalConflictError, OutcomeUnknownError, PortError, StoreUnavailableError
from ..ports import Append, Appended, Head, JournalStore
from .background import Background
from .crashpoints import crash_point

__all__ = ["Committer"]

_MAX_BATCH = 1000


class Committer:
    """Appends for a whole host. One batch is under way at a time; what arrives meanwhile makes up the next.

    An append that the store may or may not have taken is repeated under its entry id until the outcome is known: the
    store recognises it. ``patience`` seconds of a failing store end in OutcomeUnknownError, or in the store's own
    error when it is certain that nothing was appended.
    """

    def __init__(self, journal: JournalStore, clock: Clock, background: Background, *, patience: float = 10.0) -> None:
        self._journal = journal
        self._clock = clock
        self._background = background
        self._patience = patience
        self._waiting: list[tuple[Append, asyncio.Future[Appended]]] = []
        self._flushing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._confirming: dict[str, asyncio.Future[Head]] = {}
        self.batches = 0
        self.appends = 0

    async def append(self, append: Append) -> Appended:
        """Append durably. Raises JournalConflictError, OutcomeUnknownError, TooLargeError or StoreUnavailableError.

        A caller cancelled meanwhile does not take back the append, nor those of others.
        """
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._waiting.append((append, future))
        if not self._flushing:
            self._flushing = True
            try:
                await asyncio.sleep(0)
                await self._flush_one()
            finally:
                if self._waiting:
                    self._background.spawn(self._flush(), "loom committer")
                else:
                    self._done()
        return await future

    async def confirm(self, stream: str) -> Head:
        """The stream's head, read from the store together with others asked for in the same moment."""
        future = self._confirming.get(stream)
        if future is None:
            if not self._confirming:
                self._background.spawn(self._confirm(), "loom confirm")
            future = self._confirming[stream] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Wait until everything handed over has an outcome."""
        while self._flushing:
            self._idle.clear()
            await self._idle.wait()

    async def _confirm(self) -> None:
        asked, self._confirming = self._confirming, {}
        try:
            heads = await self._journal.heads(list(asked))
        except Exception as error:
            for future in asked.values():
                future.set_exception(error)
                future.exception()
            return
        for future, head in zip(asked.values(), heads, strict=True):
            future.set_result(head)

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._flush_one()
        finally:
            self._done()

    async def _flush_one(self) -> None:
        batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        self.batches += 1
        self.appends += len(batch)
        await self._commit(batch)

    def _done(self) -> None:
        self._flushing = False
        self._idle.set()

    async def _commit(self, batch: list[tuple[Append, asyncio.Future[Appended]]]) -> None:
        crash_point("append.before")
        try:
            outcomes = await self._journal.append_many([append for append, _ in batch])
        except BaseException as error:
            # A cancelled leader leaves the outcome as unknown as a cut connection does.
            cause = (
                error
                if isinstance(error, Exception)
                else StoreUnavailableError("the append was interrupted", unknown=True)
            )
            for append, future in batch:
                self._background.spawn(self._resolve(append, future, cause), "loom resolve")
            if not isinstance(error, Exception):
                raise
            return
        crash_point("append.after")
        for (append, future), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Appended):
                if not future.done():
                    future.set_result(outcome)
            elif isinstance(outcome, StoreUnavailableError):
                self._background.spawn(self._resolve(append, future, outcome), "loom resolve")
            elif not future.done():
                future.set_exception(outcome)

    async def _resolve(self, append: Append, future: asyncio.Future[Appended], error: Exception) -> None:
        unsure = not isinstance(error, StoreUnavailableError) or error.unknown
        until = self._clock.monotonic() + (self._patience if unsure else min(1.0, self._patience))
        pause = 0.02
        while self._clock.monotonic() < until:
            await self._clock.sleep(pause)
            pause = min(pause * 2, 1.0)
            try:
                [outcome] = await self._journal.append_many([append])
            except Exception as again:
                error = again
                unsure = unsure or not isinstance(again, StoreUnavailableError) or again.unknown
                continue
            if isinstance(outcome, Appended):
                if not future.done():
                    future.set_result(outcome)
                return
            if isinstance(outcome, StoreUnavailableError):
                unsure = unsure or outcome.unknown
                error = outcome
                continue
            error, unsure = outcome, unsure and _may_be_trimmed(append, outcome)
            break
        if future.done():
            return
        if unsure:
            unknown = OutcomeUnknownError(
                f"{append.stream}: the journal did not say whether entry {append.entry_id} was appended at seq "
                f"{append.expected_seq + 1} ({error}); retry under the same request id",
                stream=append.stream,
                seq=append.expected_seq + 1,
            )
            unknown.__cause__ = error
            future.set_exception(unknown)
        else:
            future.set_exception(error if isinstance(error, PortError) else StoreUnavailableError(str(error)))


def _may_be_trimmed(append: Append, outcome: PortError) -> bool:
    """Whether the entry may have been appended, snapshotted over and trimmed since, so that its id is not found."""
    if not isinstance(outcome, JournalConflictError):
        return False
    return outcome.head is not None and outcome.head.snapshot_seq > append.expected_seq
