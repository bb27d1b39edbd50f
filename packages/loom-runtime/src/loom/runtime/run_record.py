"""A run's pending record: its line in ``loom runs``, and what brings the run back after a crash."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ..errors import PortError
from .entries import RunFinished, RunStarted
from .pending import PendingRecord, run_record

if TYPE_CHECKING:
    from .run_cell import RunCell

__all__ = ["NEVER", "RunRecord"]

NEVER = 4_102_444_800.0
"""The due time of a run that only a signal can wake: far away, so that its record still counts as work in hand."""


class RunRecord:
    """The record of one run, as this host last wrote or read it; ``value`` is None until then."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: PendingRecord | None = None

    async def load(self, cell: RunCell) -> PendingRecord:
        """Read it; one that is missing is made up, and not written."""
        found = await cell.host.pending.get(cell.shard, cell.stream)
        finished = cell.run_history.finished
        status = "running" if finished is None else finished.status  # ended and without a line: its retention is over
        self.value = found or run_record(cell.stream, due=None, status=status, since=cell.run_history.since)
        return self.value

    async def put(self, cell: RunCell, record: PendingRecord) -> None:
        """Write it; durable when this returns."""
        self.value = record
        await cell.host.pending.put(cell.shard, record)

    def begin(self, cell: RunCell, started: RunStarted) -> asyncio.Future[bool]:
        """Begin to write the record of a new run; False when the stream has one already, which is left."""
        self.value = run_record(cell.stream, due=started.at, status="running", since=started.at)
        return cell.host.pending.write(cell.shard, self.value, create_only=True)

    def got_through(self, cell: RunCell) -> None:
        """The run has committed something: whatever kept earlier hosts from resuming it is over."""
        if self.value is not None and self.value.resumed:
            self.value.resumed = 0
            cell.host.pending.write(cell.shard, self.value)

    async def sleep_until(self, cell: RunCell, due: float) -> bool:
        """Note when the run must be back. False, and the record as before, when a request came meanwhile."""
        record = self.value
        assert record is not None
        before = record.due
        with contextlib.suppress(PortError):
            record.due = due
            await cell.host.pending.put(cell.shard, record)
            if not cell.idle:
                record.due = before
                await cell.host.pending.put(cell.shard, record)
                return False
            if due < NEVER:
                cell.host.wake_at(due, cell.stream)
        return True

    async def stopped(self, cell: RunCell, error: Exception) -> None:
        """The run can't go on with this code. Best effort: its journal says the rest."""
        with contextlib.suppress(PortError):
            record = self.value or await cell.host.pending.get(cell.shard, cell.stream)
            if record is not None and cell.run_history.finished is None:
                record.due, record.status = cell.host.clock.now(), "stopped"
                record.resumed, record.error = 0, str(error)
                await cell.host.pending.put(cell.shard, record)

    def close(self, cell: RunCell, event: RunFinished) -> asyncio.Future[bool]:
        """Begin to write that the run has ended: the record stays as its line, and is no work in hand any more."""
        error = None if event.error is None else event.error.message
        self.value = run_record(
            cell.stream, due=None, status=event.status, since=cell.run_history.since, ended=event.at, error=error
        )
        return cell.host.pending.write(cell.shard, self.value)
