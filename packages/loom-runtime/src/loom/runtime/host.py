"""The host: everything that is active in this process, and the one door to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..actor import ActorType
from ..clock import Clock
from ..codec import PayloadCodec, error_info
from ..errors import (
    LoomError,
    NotRunningError,
    UnknownActorError,
    UnknownWorkflowError,
)
from ..interceptors import Interceptor
from ..options import RuntimeOptions
from ..ports import CoordinationAdapter, DocumentStore, JournalStore, Member, MessageQueue
from ..resources import Resources
from ..workflow import Workflow
from .actor_cell import ActorCell
from .admission import Admission
from .background import Background
from .cell import Cell
from .committer import Committer
from .deadlines import Deadlines
from .exclusive import Exclusive
from .handover import HandOver
from .ids import Ids
from .inbox import Inbox
from .job import Job
from .messages import Reply, shard_of, split_stream, type_of
from .outbox import Outbox
from .pending import PendingRecords
from .placement import Placement
from .recovery import Recovery
from .relay import Relay
from .retention import Retention
from .router import Router
from .run_cell import RunCell
from .steps import StepRunner
from .timers import Timers
from .turn import tracking_task_factory

__all__ = ["Host"]

_SWEEP = 5.0


class Host(Admission):
    """Activates actors and runs of the shards that it owns, gives them requests, and settles the outcomes."""

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
        self.pending = PendingRecords(documents, clock, self.background.spawn)
        self.committer = Committer(journal, clock, self.background)
        self.placement = Placement(coordination, member, options.shards, clock, self.background)
        self.outbox = Outbox(queue, clock, self.background, options.shards, codecs)
        self.inbox = Inbox(self)
        self.relay = Relay(self)
        self.retention = Retention(self)
        self.recovery = Recovery(self)
        self.leaving = leaving = HandOver(self)
        self.placement.on_gained = self.recovery.recover
        self.placement.on_losing = leaving.hand_over
        self.placement.types.on_gained = self.recovery.recover_types
        self.placement.types.on_losing = leaving.hand_over_types
        self.placement.types.on_at_home = self.relay.reunite
        self.timers = Timers(clock, self.background)
        self.steps = StepRunner(clock, interceptors)
        self.router = Router(queue, clock, self.background, member.id, options.shards, codecs, self)
        self.exclusive = Exclusive(self)
        self.deadlines = Deadlines()
        self.turns_running = 0
        self.stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the fleet, take shards, and pick up what they have in hand."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(tracking_task_factory(self._loop.get_task_factory()))
        await self.pending.start()
        await self.placement.start()
        self.inbox.start()
        self.background.spawn(self._sweep(), "loom sweeper")

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
        await self.leaving.deactivate(list(self.cells.values()))
        self.cells.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(1.0, self.options.drain_seconds)):
                await self.outbox.drain()
                await self.relay.drain()
                await self.inbox.close()
                await self.committer.close()
        with suppress(Exception):
            await self.placement.leave()
        await self.router.close()
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
        return stream in self.cells or self.holds(stream, waited_for)

    def holds(self, stream: str, waited_for: bool = False) -> bool:
        """Whether the stream is of a shard that this host owns, or of a type that it has there."""
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
        if not self.holds(job.message.stream, bool(job.message.chain)):
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

    def wake_at(self, due: float, stream: str) -> None:
        """Resume ``stream`` at ``due`` (Unix time); the earliest of several wins."""
        self.recovery.wake_at(due, stream)

    def drop(self, cell: Cell) -> None:
        """Forget a cell."""
        cell.retired = True
        if self.cells.get(cell.stream) is cell:
            del self.cells[cell.stream]

    # -- housekeeping --------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(min(_SWEEP, self.options.idle_seconds))
            await self.sweep()
            try:
                if self.retention.due:
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

    async def _ask_elsewhere(self, job: Job, error: LoomError) -> None:
        """Somebody here asks for a type that is served elsewhere, now or in a while. A typo is told at once."""
        message, future = job.message, job.future
        if future is None:
            self.log.warning("%s waits for a host that has its code: %s", message.stream, error)
        elif message.deadline and not await self.relay.has_served(type_of(message.stream)):
            self.answer(job, Reply(message.id, error=error_info(error)))
        else:
            await self.router.forward(message, future)
