"""Recovery: what is unfinished goes on, when its time comes, its shard comes here, or somebody asks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ..codec import encode
from ..errors import LoomError, UnknownActorError, UnknownWorkflowError
from .actor_cell import ActorCell
from .cell import Cell
from .job import Job
from .messages import Kind, Message, Reply, mailbox_queue, shard_of, type_mailbox, type_of
from .pending import PendingRecord
from .types_apart import Unit

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Recovery"]


class Recovery:
    """Resumes what pending records announce; each is checked against the journal by the cell that it wakes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._alarms: dict[str, tuple[float, int]] = {}

    def wake_at(self, due: float, stream: str) -> None:
        """Resume ``stream`` at ``due`` (Unix time); the earliest of several wins."""
        alarm = self._alarms.get(stream)
        if alarm is not None:
            if alarm[0] <= due:
                return
            self._host.timers.cancel(alarm[1])
        self._alarms[stream] = (due, self._host.timers.at(due, lambda: self._wake(stream)))

    def _wake(self, stream: str) -> None:
        self._alarms.pop(stream, None)
        if self._host.stopping or not self._host.holds(stream):
            return
        try:
            self._host.cell(stream).resume()
        except LoomError as error:
            self._host.log.error("%s can't be resumed: %s", stream, error)

    def wake(self, job: Job) -> None:
        """Somebody has made a pending record due again, and asks that it be looked at now."""
        stream = job.message.stream
        if not self._host.holds(stream):
            self._host.redirect(job)
        elif not self._host.has_code(stream):
            self._host.relay.put(job)
        else:
            self._host.background.spawn(self._wake_pending(job), "loom wake")

    async def _wake_pending(self, job: Job) -> None:
        stream = job.message.stream
        shard = shard_of(stream, self._host.options.shards)
        try:
            record = await self._host.pending.get(shard, stream)
            if record is not None and record.due is not None:
                if record.due > self._host.clock.now():
                    self.wake_at(record.due, stream)
                else:
                    await self._resume(shard, record)
        except Exception as error:
            self._host.fail(job, error, ran=False)
        else:
            self._host.answer(job, Reply(job.message.id, encode(record is not None and record.due is not None)))

    async def recover(self, shards: list[int]) -> None:
        """Resume what newly owned shards have in hand: what their last owner had read, and what is pending."""
        await self._host.inbox.inherit([mailbox_queue(shard) for shard in shards])
        await self._resume_pending(shards, None)

    async def recover_types(self, units: list[Unit]) -> None:
        """The same for types in shards of others."""
        await self._host.inbox.inherit([type_mailbox(*unit) for unit in units])
        await self._resume_pending(sorted({shard for shard, _ in units}), set(units))

    async def _resume_pending(self, shards: list[int], units: set[Unit] | None) -> None:
        now = self._host.clock.now()

        async def scan(shard: int) -> list[PendingRecord]:
            return [record async for record in self._host.pending.of_shard(shard)]

        for shard, records in zip(shards, await asyncio.gather(*map(scan, shards)), strict=True):
            for record in records:
                if units is not None and (shard, type_of(record.stream)) not in units:
                    continue
                if not self._host.holds(record.stream):
                    continue
                if record.due is not None and record.due > now:
                    self.wake_at(record.due, record.stream)
                else:
                    await self._resume(shard, record)

    async def _resume(self, shard: int, record: PendingRecord) -> None:
        """Resume beside others the first time; a second time alone, for the first may have crashed the host.

        Without the code for it nothing is tried, so nothing is charged.
        """
        try:
            self._host.cell(record.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            self._host.log.warning("%s waits for a host that has its code: %s", record.stream, error)
            return
        if record.resumed == 0:
            record.resumed = 1
            await self._host.pending.put(shard, record)
            self._resume_beside(record)
        else:
            self._host.background.spawn(self._resume_alone(shard, record), "loom resume")

    def _resume_beside(self, record: PendingRecord) -> Cell | None:
        try:
            cell = self._host.cell(record.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            self._host.log.warning("%s waits for a host that has its code: %s", record.stream, error)
            return None
        if isinstance(cell, ActorCell):
            cell.pending_due = record.due
        cell.resume()
        return cell

    async def _resume_alone(self, shard: int, record: PendingRecord) -> None:
        job = Job(_recovery_message(record.stream))
        await self._host.exclusive.enter(job)
        try:
            if record.resumed > self._host.options.crash_attempts:
                self._host.log.error(
                    "%s: resuming it has ended %d times with a crash, the last ones alone; it is left alone now. "
                    "See 'loom dlq list', and 'loom dlq redrive' to try again", record.stream, record.resumed,
                )  # fmt: skip
                record.due, record.status = None, "poisoned"
                await self._host.pending.put(shard, record)
                return
            record.resumed += 1
            await self._host.pending.put(shard, record)
            cell = self._resume_beside(record)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._host.options.turn_deadline):
                    while cell is not None and not cell.settled:
                        await asyncio.sleep(0.01)
        finally:
            self._host.exclusive.leave(job)


def _recovery_message(stream: str) -> Message:
    return Message(id="recovery", kind=Kind.CALL, stream=stream)
