"""The host: everything that is active in this process, and the one door to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

from ..actor import ActorType
from ..clock import Clock
from ..codec import PayloadCodec, error_info
from ..errors import (
    LoomError,
    NotRunningError,
    OutcomeUnknownError,
    OverloadedError,
    PortError,
    UnknownActorError,
    UnknownWorkflowError,
)
from ..interceptors import Interceptor
from ..options import RuntimeOptions
from ..ports import CoordinationAdapter, DocumentStore, JournalStore, Member, MessageQueue
from ..resources import Resources
from ..workflow import Workflow
from .actor_cell import ActorCell
from .background import Background
from .cell import Cell
from .committer import Committer
from .deadlines import Deadlines
from .exclusive import Exclusive
from .ids import Ids
from .inbox import Inbox
from .job import Job
from .messages import Kind, Message, Reply, shard_of, split_stream
from .outbox import Outbox
from .pending import PendingRecord, PendingRecords
from .placement import Placement
from .router import Router
from .run_cell import RunCell
from .steps import StepRunner
from .timers import Timers
from .turn import tracking_task_factory

__all__ = ["Host"]

_FIRST_RETRY = 0.5
_LONGEST_RETRY = 60.0
_UNKNOWN_TYPE_WINDOW = 60.0
_SWEEP = 5.0


class Host:
    """Activates actors and runs of the shards that it owns, gives them requests, and settles the outcomes."""

    log = logging.getLogger("loom.host")

    def __init__(
        self, *, journal: JournalStore, queue: MessageQueue, documents: DocumentStore,
        coordination: CoordinationAdapter, member: Member, actors: Mapping[str, ActorType],
        workflows: Mapping[str, Workflow[Any, Any]], options: RuntimeOptions, clock: Clock, resources: Resources,
        codecs: tuple[PayloadCodec, ...], interceptors: tuple[Interceptor, ...],
    ) -> None:  # fmt: skip
        self.journal = journal
        self.queue = queue
        self.coordination = coordination
        self.actors = actors
        self.workflows = workflows
        self.options = options
        self.clock = clock
        self.resources = resources
        self.codecs = codecs
        self.interceptors = interceptors
        self.cells: dict[str, Cell] = {}
        self.ids = Ids()
        self.background = Background()
        self.pending = PendingRecords(documents)
        self.committer = Committer(journal, clock, self.background)
        self.placement = Placement(coordination, member, options.shards, clock, self.background)
        self.placement.on_gained = self._recover
        self.placement.on_losing = self._hand_over
        self.outbox = Outbox(queue, clock, self.background, options.shards, codecs)
        self.inbox = Inbox(self)
        self.timers = Timers(clock, self.background)
        self.steps = StepRunner(clock, interceptors)
        self.router = Router(queue, clock, self.background, member.id, options.shards, codecs, self)
        self.exclusive = Exclusive(self)
        self.deadlines = Deadlines()
        self.turns_running = 0
        self._alarms: dict[str, tuple[float, int]] = {}
        self.stopping = False
        self._sweeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the fleet, take shards, and pick up what they have in hand."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(tracking_task_factory(self._loop.get_task_factory()))
        await self.pending.start()
        await self.placement.start()
        self.inbox.start()
        self._sweeper = self.background.spawn(self._sweep(), "loom sweeper")

    async def stop(self) -> None:
        """Stop reading, finish turns under way within ``drain_seconds``, hand over, leave."""
        self.stopping = True
        await self.placement.stop()
        await self.inbox.stop()
        self.timers.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.drain_seconds or 0.001):
                while self.turns_running or any(cell.busy for cell in self.cells.values()):
                    await asyncio.sleep(0.005)
        for cell in list(self.cells.values()):
            await cell.deactivate()
        self.cells.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(1.0, self.options.drain_seconds)):
                await self.outbox.drain()
                await self.inbox.close()
                await self.committer.close()
        with suppress(Exception):
            await self.placement.leave()
        await self.background.cancel()
        if self._loop is not None:
            factory = self._loop.get_task_factory()
            if factory is not None and hasattr(factory, "__loom_previous__"):
                self._loop.set_task_factory(factory.__loom_previous__)

    # -- requests ------------------------------------------------------------------------------------------------

    def serves(self, stream: str) -> bool:
        """Whether the stream is this host's: active here, or of a shard that it owns."""
        return stream in self.cells or self.placement.owns(shard_of(stream, self.options.shards))

    def deliver(self, job: Job) -> None:
        """Give a request to its actor or run, activating it if need be. Never raises: the answer says it all."""
        cell = self.cells.get(job.message.stream)
        if cell is not None and not cell.retired and not self.stopping:
            cell.deliver(job)
            return
        if self.stopping:
            self.refuse(job, NotRunningError("this host is stopping; call again", stream=job.message.stream))
            return
        if not self.placement.owns(shard_of(job.message.stream, self.options.shards)):
            self.redirect(job)
            return
        try:
            cell = self.cell(job.message.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            self.background.spawn(self._unknown_type(job, error), "loom unknown type")
            return
        cell.deliver(job)

    def cell(self, stream: str) -> Cell:
        """The cell of a stream. Raises UnknownActorError or UnknownWorkflowError when this host has no code for it."""
        cell = self.cells.get(stream)
        if cell is not None and not cell.retired:
            return cell
        kind, name, key = split_stream(stream)
        if kind == "actor":
            actor = self.actors.get(name)
            if actor is None:
                raise UnknownActorError(
                    f"no actor type {name!r} here; this host serves: {', '.join(sorted(self.actors)) or 'none'}. "
                    "Add it to Loom(actors=[…])", actor=name,
                )  # fmt: skip
            cell = ActorCell(self, stream, actor, key)
        else:
            workflow = self.workflows.get(name)
            if workflow is None:
                raise UnknownWorkflowError(
                    f"no workflow {name!r} here; this host serves: {', '.join(sorted(self.workflows)) or 'none'}. "
                    "Add it to Loom(workflows=[…])", workflow=name,
                )  # fmt: skip
            cell = RunCell(self, stream, workflow, key)
        self.cells[stream] = cell
        return cell

    def drop(self, cell: Cell) -> None:
        """Forget a cell."""
        cell.retired = True
        if self.cells.get(cell.stream) is cell:
            del self.cells[cell.stream]

    async def may_start(self, job: Job) -> bool:
        """Charge the attempt and wait for the turn's turn. False when the request is no longer this host's to run."""
        delivery = job.delivery
        if delivery is None:
            if self.exclusive.busy and not job.message.chain:
                await self.exclusive.passed()
            return True
        suspicious = self.inbox.suspicious(delivery)
        if suspicious and delivery.attempts > self.options.crash_attempts:
            await self.inbox.dead_letter(
                delivery,
                f"poison: {delivery.attempts} attempts ended with a crash or hang of the host, the last ones alone",
            )
            return False
        if self.exclusive.busy and not job.message.chain:
            await self.exclusive.passed()
        if not await self.inbox.begin(delivery):
            return False
        if suspicious:
            await self.exclusive.enter(job)
        return True

    def turn_ended(self, job: Job) -> None:
        """A turn is over, well or badly."""
        if self.exclusive.busy:
            self.exclusive.leave(job)

    # -- outcomes ------------------------------------------------------------------------------------------------

    def answer(self, job: Job, reply: Reply, after: Awaitable[Any] | None = None) -> None:
        """The request is done. A queued one is acked when ``after`` (its outgoing messages) is done too."""
        if job.future is not None:
            if not job.future.done():
                job.future.set_result(reply)
        elif job.delivery is not None:
            if after is None:
                self.inbox.settle(job, reply)
            else:
                self.background.spawn(self._settle_after(job, reply, after), "loom settle")

    def fail(self, job: Job, error: Exception) -> None:
        """The request failed and changed nothing. Somebody who waits hears of it;
        a send is tried again, then given up.
        """
        if job.delivery is not None and _nobody_waits(job.message):
            attempts = job.delivery.attempts + 1
            if attempts >= self.options.max_attempts:
                work = self.inbox.dead_letter(job.delivery, f"{attempts} attempts failed, the last with {error!r}")
            else:
                pause = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** (attempts - 1))
                work = self.inbox.retry(job.delivery, pause)
            self.background.spawn(work, "loom retry")
        elif job.future is None and job.delivery is None:
            self.log.error("%s: recovered work failed: %r", job.message.stream, error)
        else:
            self.answer(job, Reply(job.message.id, error=error_info(error)))

    def refuse(self, job: Job, error: LoomError) -> None:
        """The request was not run."""
        if job.delivery is None:
            self.fail(job, error)
        elif isinstance(error, OverloadedError | NotRunningError) and _nobody_waits(job.message):
            self.background.spawn(self.inbox.retry(job.delivery, 0.2), "loom park")
        elif isinstance(error, NotRunningError):
            self.background.spawn(self.inbox.retry(job.delivery, 0.0), "loom park")
        elif _nobody_waits(job.message):
            self.background.spawn(self.inbox.dead_letter(job.delivery, str(error)), "loom refuse")
        else:
            self.fail(job, error)

    def unknown(self, job: Job, error: OutcomeUnknownError) -> None:
        """The journal would not say. Nothing is claimed: the caller may ask again, a queued request comes again."""
        if job.delivery is not None:
            self.inbox.forget(job.delivery)
        elif job.future is not None and not job.future.done():
            error.request_id = error.context["request_id"] = job.message.id
            job.future.set_exception(error)

    def redirect(self, job: Job) -> None:
        """The stream is not, or no longer, this cell's: try again where it is."""
        job.redirects += 1
        owned = self.placement.owns(shard_of(job.message.stream, self.options.shards))
        if job.delivery is not None:
            if owned and not self.stopping and job.redirects < 10:
                self.deliver(job)
            else:
                self.background.spawn(self.inbox.retry(job.delivery, 0.0 if self.stopping else 0.05), "loom redirect")
        elif job.future is not None:
            if owned and not self.stopping and job.redirects < 10:
                self.deliver(job)
            else:
                self.background.spawn(self.router.forward(job.message, job.future), "loom forward")

    @staticmethod
    def is_final(error: Exception) -> bool:
        """Whether the error is the handler's own outcome, to be remembered, or the infrastructure's."""
        return not isinstance(error, PortError | NotRunningError | OutcomeUnknownError)

    # -- recovery ------------------------------------------------------------------------------------------------

    def wake_at(self, due: float, stream: str) -> None:
        """Resume ``stream`` at ``due`` (Unix time); the earliest of several wins."""
        alarm = self._alarms.get(stream)
        if alarm is not None:
            if alarm[0] <= due:
                return
            self.timers.cancel(alarm[1])
        self._alarms[stream] = (due, self.timers.at(due, lambda: self._wake(stream)))

    def _wake(self, stream: str) -> None:
        self._alarms.pop(stream, None)
        if self.stopping or not self.placement.owns(shard_of(stream, self.options.shards)):
            return
        try:
            self.cell(stream).resume()
        except LoomError as error:
            self.log.error("%s can't be resumed: %s", stream, error)

    async def _recover(self, shards: list[int]) -> None:
        """Resume what newly owned shards have in hand."""
        now = self.clock.now()

        async def scan(shard: int) -> list[PendingRecord]:
            return [record async for record in self.pending.of_shard(shard)]

        for shard, records in zip(shards, await asyncio.gather(*map(scan, shards)), strict=True):
            for record in records:
                if record.due is not None and record.due > now:
                    self.wake_at(record.due, record.stream)
                else:
                    await self._resume(shard, record)

    async def _resume(self, shard: int, record: PendingRecord) -> None:
        try:
            self.cell(record.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            self.log.warning("%s waits for a host that has its code: %s", record.stream, error)
            return
        record.resumed += 1
        if record.resumed > self.options.crash_attempts:
            self.log.error(
                "%s: resuming it has ended %d times with a crash, the last ones alone; it is left alone now. "
                "See 'loom dlq list', and 'loom dlq redrive' to try again", record.stream, record.resumed - 1,
            )  # fmt: skip
            record.due = None
            record.status = "poisoned"
            await self.pending.put(shard, record)
            return
        await self.pending.put(shard, record)
        self.background.spawn(self._resume_one(record), "loom resume")

    async def _resume_one(self, record: PendingRecord) -> None:
        cell = self.cell(record.stream)
        if isinstance(cell, ActorCell):
            cell.pending_due = record.due
        if record.resumed >= 2:
            job = Job(_recovery_message(record.stream))
            await self.exclusive.enter(job)
            try:
                cell.resume()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.options.turn_deadline):
                        while not cell.settled:
                            await asyncio.sleep(0.01)
            finally:
                self.exclusive.leave(job)
        else:
            cell.resume()

    async def _hand_over(self, shards: list[int]) -> None:
        """Let go of shards: finish turns under way, drop the rest, give back what was read."""
        losing = set(shards)
        cells = [cell for cell in self.cells.values() if cell.shard in losing]
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.drain_seconds or 0.001):
                while any(cell.busy for cell in cells):
                    await asyncio.sleep(0.005)
        for cell in cells:
            await cell.deactivate()
            self.drop(cell)
        await self.inbox.give_back(losing)

    # -- housekeeping --------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(min(_SWEEP, self.options.idle_seconds))
            await self.sweep()

    async def sweep(self) -> int:
        """Deactivate idle cells: those unused for ``idle_seconds``, then the least recently used above
        ``max_active``.
        """
        now = self.clock.monotonic()
        idle = [cell for cell in self.cells.values() if cell.idle]
        leaving = [cell for cell in idle if now - cell.used_at >= self.options.idle_seconds]
        surplus = len(self.cells) - len(leaving) - self.options.max_active
        if surplus > 0:
            rest = sorted((c for c in idle if now - c.used_at < self.options.idle_seconds), key=lambda c: c.used_at)
            leaving.extend(rest[:surplus])
        for cell in leaving:
            if cell.idle:
                await cell.deactivate()
                if cell.retired:
                    self.drop(cell)
        return len(leaving)

    async def _settle_after(self, job: Job, reply: Reply, after: Awaitable[Any]) -> None:
        await after
        self.inbox.settle(job, reply)

    async def _unknown_type(self, job: Job, error: LoomError) -> None:
        """Another host may have the code: delay and route; give up after a window, or when nobody serves the type."""
        name = split_stream(job.message.stream)[1]
        served = any(name in member.serves for member in await self.coordination.members())
        age = self.clock.now() - job.message.sent_at
        if job.delivery is not None and (served or _nobody_waits(job.message)) and age < _UNKNOWN_TYPE_WINDOW:
            await self.inbox.retry(job.delivery, 1.0)
        elif job.delivery is not None and _nobody_waits(job.message):
            await self.inbox.dead_letter(job.delivery, str(error))
        else:
            self.answer(job, Reply(job.message.id, error=error_info(error)))


def _nobody_waits(message: Message) -> bool:
    """Whether the message was sent and not asked: a failure must be tried again, for there is nobody to tell."""
    return message.kind is Kind.SEND or not message.reply_to


def _recovery_message(stream: str) -> Message:
    return Message(id="recovery", kind=Kind.CALL, stream=stream)
