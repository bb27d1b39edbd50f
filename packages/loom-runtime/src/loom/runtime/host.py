"""The host: everything that is active in this process, and the one door to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

from ..actor import ActorType
from ..clock import Clock
from ..codec import PayloadCodec, encode, error_info
from ..errors import (
    CoordinationError,
    JournalError,
    LoomError,
    NotRunningError,
    OutcomeUnknownError,
    OverloadedError,
    QueueError,
    StoreUnavailableError,
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
from .messages import Kind, Message, Reply, derived_id, mailbox_queue, shard_of, split_stream, type_mailbox, type_of
from .outbox import Outbox
from .pending import PendingRecord, PendingRecords
from .placement import Placement
from .relay import Relay
from .retention import Retention
from .router import Router
from .run_cell import RunCell
from .steps import StepRunner
from .timers import Timers
from .turn import tracking_task_factory
from .types_apart import Unit

__all__ = ["Host"]

_FIRST_RETRY = 0.5
_LONGEST_RETRY = 60.0
_SWEEP = 5.0
_INFRASTRUCTURE = (
    StoreUnavailableError, JournalError, QueueError, CoordinationError, NotRunningError, OutcomeUnknownError,
    OverloadedError,
)  # fmt: skip


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
        self.pending = PendingRecords(documents, self.background.spawn)
        self.committer = Committer(journal, clock, self.background)
        self.placement = Placement(coordination, member, options.shards, clock, self.background)
        self.placement.on_gained = self._recover
        self.placement.on_losing = self._hand_over
        self.placement.types.on_gained = self._recover_types
        self.placement.types.on_losing = self._hand_over_types
        self.outbox = Outbox(queue, clock, self.background, options.shards, codecs)
        self.inbox = Inbox(self)
        self.relay = Relay(self)
        self.retention = Retention(self)
        self.placement.types.on_at_home = self.relay.reunite
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
                await self.relay.drain()
                await self.inbox.close()
                await self.committer.close()
        with suppress(Exception):
            await self.placement.leave()
        self.router.close()
        await self.background.cancel()
        if self._loop is not None:
            factory = self._loop.get_task_factory()
            if factory is not None and hasattr(factory, "__loom_previous__"):
                self._loop.set_task_factory(factory.__loom_previous__)

    # -- requests ------------------------------------------------------------------------------------------------

    def serves(self, stream: str, *, waited_for: bool = False) -> bool:
        """Whether the stream is this host's: active here, or of a shard that it owns.

        What a turn waits for (``waited_for``) is served to the end also where the shard is being handed over: the next
        owner has to wait for that turn.
        """
        return stream in self.cells or self._holds(stream, waited_for)

    def _holds(self, stream: str, waited_for: bool = False) -> bool:
        return self.placement.has(stream, shard_of(stream, self.options.shards), leaving=waited_for)

    def has_code(self, stream: str) -> bool:
        """Whether this host has the actor type or workflow of a stream."""
        kind, name, _ = split_stream(stream)
        return name in (self.actors if kind == "actor" else self.workflows)

    def deliver(self, job: Job) -> None:
        """Give a request to its actor or run, activating it if need be. Never raises: the answer says it all."""
        cell = self.cells.get(job.message.stream)
        if cell is not None and not cell.retired and (not self.stopping or job.message.chain):
            cell.deliver(job)
            return
        if self.stopping and not job.message.chain:  # what turns under way still ask for lets them finish
            self.refuse(job, NotRunningError("this host is stopping; call again", stream=job.message.stream))
            return
        if not self._holds(job.message.stream, bool(job.message.chain)):
            self.redirect(job)
            return
        try:
            cell = self.cell(job.message.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            if job.delivery is not None:
                self.relay.put(job)
            else:
                self.background.spawn(self._ask_elsewhere(job, error), "loom unserved")
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
                raise self.no_code(stream)
            cell = ActorCell(self, stream, actor, key)
        else:
            workflow = self.workflows.get(name)
            if workflow is None:
                raise self.no_code(stream)
            cell = RunCell(self, stream, workflow, key)
        self.cells[stream] = cell
        return cell

    def no_code(self, stream: str) -> LoomError:
        """What somebody hears who asks for a type that neither this host nor another serves."""
        kind, name, _ = split_stream(stream)
        if kind == "actor":
            return UnknownActorError(
                f"no actor type {name!r} here; this host serves: {', '.join(sorted(self.actors)) or 'none'}. "
                "Add it to Loom(actors=[…])", actor=name,
            )  # fmt: skip
        return UnknownWorkflowError(
            f"no workflow {name!r} here; this host serves: {', '.join(sorted(self.workflows)) or 'none'}. "
            "Add it to Loom(workflows=[…])", workflow=name,
        )  # fmt: skip

    def drop(self, cell: Cell) -> None:
        """Forget a cell."""
        cell.retired = True
        if self.cells.get(cell.stream) is cell:
            del self.cells[cell.stream]

    async def may_start(self, job: Job) -> bool:
        """Charge the attempt and wait for the turn's turn. False when the request is no longer this host's to run.

        Whoever gets True calls ``turn_ended``.
        """
        delivery = job.delivery
        alone = delivery is not None and self.inbox.suspicious(delivery)
        if alone and not await self._enter_alone(job):
            return False
        if not self.exclusive.admits(job):
            await self.exclusive.passed()
        if delivery is None:
            return True
        self.turns_running += 1  # whoever wants to run alone from here on waits for it
        try:
            begun = await self.inbox.begin(delivery)
        except Exception as error:
            self.log.warning("%s: its attempt can't be charged: %s", job.message.stream, error)
            self._try_again(job, _FIRST_RETRY)
            begun = False
        finally:
            self.turns_running -= 1
        if not begun:
            self.exclusive.leave(job)
        return begun

    async def _enter_alone(self, job: Job) -> bool:
        """A message that was begun and never settled: run it with nothing beside it, and note that before it runs.

        Only a message that ended with a crash ``crash_attempts`` times while it ran alone is poison.
        """
        delivery = job.delivery
        assert delivery is not None
        shard, name = shard_of(job.message.stream, self.options.shards), _trial_name(delivery.id)
        await self.exclusive.enter(job)
        try:
            trial = await self.pending.get(shard, name) or PendingRecord(stream=name)
            if trial.resumed >= self.options.crash_attempts:
                reason = f"poison: {trial.resumed} attempts alone ended with a crash or hang of the host"
                await self.inbox.dead_letter(delivery, f"{reason}, of {delivery.attempts} in all")
                await self.pending.remove(shard, name)
                self.exclusive.leave(job)
                return False
            trial.resumed += 1
            await self.pending.put(shard, trial)
        except Exception as error:
            self.log.warning("%s: %s can't run alone yet: %s", job.message.stream, delivery.id, error)
            self.exclusive.leave(job)
            self._try_again(job, 1.0)
            return False
        return True

    def turn_ended(self, job: Job) -> None:
        """A turn is over, well or badly."""
        if self.exclusive.leave(job) and job.delivery is not None:
            shard = shard_of(job.message.stream, self.options.shards)
            self.background.spawn(self.pending.remove(shard, _trial_name(job.delivery.id)), "loom trial")

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

    def fail(self, job: Job, error: Exception, *, ran: bool = True) -> None:
        """The request failed and changed nothing. Somebody who waits hears of it; a send is tried again, then given up.

        Where the infrastructure failed, a message that may have been run before is tried again until it expires: its
        answer may be in the journal, and a failure must not be claimed. ``ran`` is False when no handler was reached.
        """
        delivery = job.delivery
        if delivery is None:
            if job.future is None:
                self.log.error("%s: recovered work failed: %r", job.message.stream, error)
            else:
                self.answer(job, Reply(job.message.id, error=error_info(error)))
            return
        final, waited_for = self.is_final(error), not _nobody_waits(job.message)
        if waited_for and (final or delivery.attempts == 0):
            self.answer(job, Reply(job.message.id, error=error_info(error)))
        elif final and ran:
            attempts = delivery.attempts + 1
            if attempts >= self.options.max_attempts:
                reason = f"{attempts} attempts failed, the last with {error!r}"
                self.background.spawn(self.inbox.dead_letter(delivery, reason), "loom give up")
            else:
                self._try_again(job, min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** (attempts - 1)))
        elif job.message.expires_at and self.clock.now() >= job.message.expires_at:
            reason = f"it expired; the last failure was {error!r}"
            self.background.spawn(self.inbox.dead_letter(delivery, reason), "loom expire")
        else:
            age = max(0.0, self.clock.now() - delivery.enqueued_at)
            self._try_again(job, min(_LONGEST_RETRY, max(_FIRST_RETRY, age / 2)))

    def _try_again(self, job: Job, delay: float) -> None:
        """Give a queued request back. Later ones of its actor that were read with it go back as well, behind it."""
        assert job.delivery is not None
        self.background.spawn(self.inbox.retry(job.delivery, delay), "loom retry")
        cell = self.cells.get(job.message.stream)
        if isinstance(cell, ActorCell):
            cell.hold()

    def refuse(self, job: Job, error: LoomError) -> None:
        """The request was not run now."""
        if job.delivery is None:
            self.fail(job, error)
        elif isinstance(error, NotRunningError):
            self.background.spawn(self.inbox.retry(job.delivery, 0.0), "loom park")
        elif isinstance(error, OverloadedError) and (_nobody_waits(job.message) or job.delivery.attempts):
            # One that has been begun before may have its answer in the journal: it is not refused but waits.
            self.background.spawn(self.inbox.retry(job.delivery, 0.2), "loom park")
        elif _nobody_waits(job.message):
            self.background.spawn(self.inbox.dead_letter(job.delivery, str(error)), "loom refuse")
        else:
            self.answer(job, Reply(job.message.id, error=error_info(error)))

    def unknown(self, job: Job, error: OutcomeUnknownError) -> None:
        """The journal would not say. Nothing is claimed: the caller may ask again, a queued request comes again."""
        if job.delivery is not None:
            self._try_again(job, _FIRST_RETRY)
        elif job.future is not None and not job.future.done():
            error.request_id = error.context["request_id"] = job.message.id
            job.future.set_exception(error)

    def interrupted(self, job: Job) -> None:
        """The host stopped in the middle of a turn; nothing of it was committed. A queued request comes again."""
        if job.future is not None and not job.future.done():
            where = f"{job.message.stream}.{job.message.method}"
            job.future.set_exception(NotRunningError(f"{where}: the host stopped; nothing was committed"))

    def redirect(self, job: Job) -> None:
        """The stream is not, or no longer, this cell's: try again where it is."""
        job.redirects += 1
        owned = self._holds(job.message.stream)
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
        return not isinstance(error, _INFRASTRUCTURE)

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
        if self.stopping or not self._holds(stream):
            return
        try:
            self.cell(stream).resume()
        except LoomError as error:
            self.log.error("%s can't be resumed: %s", stream, error)

    def wake(self, job: Job) -> None:
        """Somebody has made a pending record due again, and asks that it be looked at now."""
        stream = job.message.stream
        if not self._holds(stream):
            self.redirect(job)
        elif not self.has_code(stream):
            self.relay.put(job)
        else:
            self.background.spawn(self._wake_pending(job), "loom wake")

    async def _wake_pending(self, job: Job) -> None:
        stream = job.message.stream
        shard = shard_of(stream, self.options.shards)
        try:
            record = await self.pending.get(shard, stream)
            if record is not None and record.due is not None:
                if record.due > self.clock.now():
                    self.wake_at(record.due, stream)
                else:
                    await self._resume(shard, record)
        except Exception as error:
            self.fail(job, error, ran=False)
        else:
            self.answer(job, Reply(job.message.id, encode(record is not None and record.due is not None)))

    async def _recover(self, shards: list[int]) -> None:
        """Resume what newly owned shards have in hand: what their last owner had read, and what is pending."""
        await self.inbox.inherit([mailbox_queue(shard) for shard in shards])
        await self._resume_pending(shards, None)

    async def _recover_types(self, units: list[Unit]) -> None:
        """The same for types in shards of others."""
        await self.inbox.inherit([type_mailbox(*unit) for unit in units])
        await self._resume_pending(sorted({shard for shard, _ in units}), set(units))

    async def _resume_pending(self, shards: list[int], units: set[Unit] | None) -> None:
        now = self.clock.now()

        async def scan(shard: int) -> list[PendingRecord]:
            return [record async for record in self.pending.of_shard(shard)]

        for shard, records in zip(shards, await asyncio.gather(*map(scan, shards)), strict=True):
            for record in records:
                if units is not None and (shard, type_of(record.stream)) not in units:
                    continue
                if not self._holds(record.stream):
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
            self.cell(record.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            self.log.warning("%s waits for a host that has its code: %s", record.stream, error)
            return
        if record.resumed == 0:
            record.resumed = 1
            await self.pending.put(shard, record)
            self._resume_beside(record)
        else:
            self.background.spawn(self._resume_alone(shard, record), "loom resume")

    def _resume_beside(self, record: PendingRecord) -> Cell | None:
        try:
            cell = self.cell(record.stream)
        except (UnknownActorError, UnknownWorkflowError) as error:
            self.log.warning("%s waits for a host that has its code: %s", record.stream, error)
            return None
        if isinstance(cell, ActorCell):
            cell.pending_due = record.due
        cell.resume()
        return cell

    async def _resume_alone(self, shard: int, record: PendingRecord) -> None:
        job = Job(_recovery_message(record.stream))
        await self.exclusive.enter(job)
        try:
            if record.resumed > self.options.crash_attempts:
                self.log.error(
                    "%s: resuming it has ended %d times with a crash, the last ones alone; it is left alone now. "
                    "See 'loom dlq list', and 'loom dlq redrive' to try again", record.stream, record.resumed,
                )  # fmt: skip
                record.due, record.status = None, "poisoned"
                await self.pending.put(shard, record)
                return
            record.resumed += 1
            await self.pending.put(shard, record)
            cell = self._resume_beside(record)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.options.turn_deadline):
                    while cell is not None and not cell.settled:
                        await asyncio.sleep(0.01)
        finally:
            self.exclusive.leave(job)

    async def _hand_over(self, shards: list[int]) -> None:
        """Let go of shards: finish turns under way, drop the rest, give back what was read."""
        losing, kept = set(shards), self.placement.types.leases
        cells = [cell for cell in self.cells.values() if cell.shard in losing]
        if kept:
            cells = [cell for cell in cells if (cell.shard, type_of(cell.stream)) not in kept]
        await self._let_go(cells, {mailbox_queue(shard) for shard in shards})

    async def _hand_over_types(self, units: list[Unit]) -> None:
        """The same for types in shards of others."""
        losing = set(units)
        cells = [cell for cell in self.cells.values() if (cell.shard, type_of(cell.stream)) in losing]
        await self._let_go(cells, {type_mailbox(*unit) for unit in units})

    async def _let_go(self, cells: list[Cell], queues: set[str]) -> None:
        for cell in cells:
            if isinstance(cell, ActorCell):
                cell.leaving = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.drain_seconds or 0.001):
                while any(cell.busy for cell in cells):
                    await asyncio.sleep(0.005)
        for cell in cells:
            await cell.deactivate()
            self.drop(cell)
        await self.inbox.give_back(queues)

    # -- housekeeping --------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(min(_SWEEP, self.options.idle_seconds))
            await self.sweep()
            try:
                await self.retention.sweep()
                if self.placement.types.apart:
                    await self.relay.sweep()
            except Exception as error:
                self.log.warning("loom: what is old can't be swept: %s", error)

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

    async def _ask_elsewhere(self, job: Job, error: LoomError) -> None:
        """Somebody here asks for a type that is served elsewhere, now or in a while. A typo is told at once."""
        message, future = job.message, job.future
        if future is None:
            self.log.warning("%s waits for a host that has its code: %s", message.stream, error)
        elif message.deadline and not await self.relay.has_served(type_of(message.stream)):
            self.answer(job, Reply(message.id, error=error_info(error)))
        else:
            await self.router.forward(message, future)


def _trial_name(delivery_id: str) -> str:
    return "alone/" + derived_id(delivery_id)


def _nobody_waits(message: Message) -> bool:
    """Whether the message was sent and not asked: a failure must be tried again, for there is nobody to tell."""
    return message.kind is Kind.SEND or not message.reply_to


def _recovery_message(stream: str) -> Message:
    return Message(id="recovery", kind=Kind.CALL, stream=stream)
