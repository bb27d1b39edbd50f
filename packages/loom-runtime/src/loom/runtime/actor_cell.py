"""An actor in memory: its mailbox, its activation, and who works on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from ..actor import Actor, ActorType
from ..codec import encode
from ..errors import OutcomeUnknownError, OverloadedError, ReadOnlyViolationError, StoreUnavailableError
from . import actor_commit, actor_reads, actor_state, actor_turn
from .actor_asking import ActorAsking
from .actor_state import Committed
from .job import Job
from .messages import Kind, Message
from .turn import Turn

if TYPE_CHECKING:
    from .host import Host

__all__ = ["ActorCell"]


class ActorCell(ActorAsking):
    """One active actor. A task exists only while there is something to do."""

    __slots__ = (
        "_activating", "_resumed", "_task", "attributes", "committing", "confirmed_at", "key", "leaving", "mailbox",
        "reading", "turn",
    )  # fmt: skip

    def __init__(self, host: Host, stream: str, kind: ActorType, key: str) -> None:
        super().__init__(host, stream)
        self.kind = kind
        self.key = key
        self.committed: Committed | None = None
        self.committing: asyncio.Future[None] | None = None
        self.confirmed_at = 0.0
        self.pending_due: float | None = None
        self.turn: Turn | None = None
        self._activating: asyncio.Task[None] | None = None
        self.attributes: dict[str, Any] | None = None
        self.mailbox: deque[Job] | None = None
        self.reading = 0
        self._resumed = False
        self.leaving = False
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no turn, read or unsent message keeps the actor in memory."""
        return self._task is None and not self.mailbox and not self.reading

    @property
    def busy(self) -> bool:
        """Whether a turn or a read is under way."""
        return not self.idle

    def deliver(self, job: Job) -> None:
        """Queue a turn, or start a read beside the turns."""
        if self.leaving and not job.message.chain:
            self.host.redirect(job)
            return
        self.used_at = self.host.clock.monotonic()
        handler = self.kind.handlers.get(job.message.method)
        if handler is not None and handler.read_only:
            self.reading += 1
            self.spawn(actor_reads.read(self, job, handler), "loom read")
            return
        if self.mailbox is None:
            self.mailbox = deque()
        if len(self.mailbox) >= self.host.options.mailbox_limit:
            self.host.refuse(job, OverloadedError(
                f"{self.stream}: {len(self.mailbox)} requests wait already; nothing was run, try again later",
                stream=self.stream,
            ))  # fmt: skip
            return
        self.mailbox.append(job)
        if self._task is None:
            self._task = self.spawn(self._run(), "loom actor")
        elif self.host.exclusive.busy:
            self.host.exclusive.knock(self.stream)

    def resume(self) -> None:
        """Finish what the journal says is unfinished: called by recovery and by reminders."""
        self._resumed = True
        if self.mailbox is None:
            self.mailbox = deque()
        if self._task is None:
            self._task = self.spawn(self._run(), "loom actor")

    def hold(self) -> None:
        """A queued message is to be tried again: those behind it go back too, so that they stay behind it."""
        later = [job for job in self.mailbox or () if job.delivery is not None]
        if later and self.mailbox is not None:
            self.mailbox = deque(job for job in self.mailbox if job.delivery is None)
            self.spawn(self.host.inbox.return_unbegun([job.delivery for job in later if job.delivery]), "loom hold")

    async def deactivate(self) -> None:
        """Snapshot when worth it and let the actor clean up."""
        if self.retired:
            return
        self.retired = True
        if self.committed is None:
            return
        if self.committed.entries_since_snapshot * 2 >= self.host.options.snapshot_every:
            with contextlib.suppress(Exception):
                await actor_state.snapshot(self)
        if self.kind.cls.on_deactivate is not Actor.on_deactivate:
            turn = Turn(self, Message(id="", kind=Kind.CALL, stream=self.stream), None, self.copy_state(), 0.0)
            try:
                async with asyncio.timeout(self.host.options.turn_deadline):
                    await self.facade(turn).on_deactivate()
            except Exception as error:
                self.host.log.warning("%s: on_deactivate failed: %r", self.stream, error)
            turn.closed = True

    def left_behind(self, turn: Turn, job: Job) -> None:
        """A handler does not end though it was cancelled: whoever asked hears of it, and the actor goes on."""
        if turn.handler is not None and turn.handler.read_only:
            self.reading -= 1
            self.host.fail(job, turn.deadline_error())
        else:
            self.spawn(actor_turn.give_up(self, turn, job), "loom give up")

    # -- the mailbox ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        host = self.host
        try:
            await self.activated()
        except Exception as error:
            self._inactive(error)
            return
        try:
            assert self.committed is not None
            if self.committed.unsent:
                actor_commit.resend(self, self.committed)
            if self.committed.unfinished is not None:
                await self._finish(Job(self.committed.unfinished.message))
            while not self.retired:
                while self.mailbox and not self.retired:
                    job = self.mailbox.popleft() if not host.exclusive.busy else await self._admitted()
                    if job is None:
                        continue
                    if self.leaving and not job.message.chain:
                        host.redirect(job)
                    else:
                        await self._serve(job)
                if not self.retired and not await actor_commit.settle(self):
                    break
        except Exception as error:
            host.log.warning("%s: it leaves memory and is read again: %r", self.stream, error)
            actor_commit.unsure(self)
        finally:
            self._task = self.turn = None
            self._resumed = False
            if self.retired:
                host.drop(self)
                self.redirect_all()
            if not self.mailbox:
                self.mailbox = None  # an empty deque of an idle actor would be the largest thing about it

    async def _finish(self, job: Job) -> None:
        """Finish the turn that is unfinished, before anything else; also while something runs alone and waits here."""
        exclusive = self.host.exclusive
        while not exclusive.admits(job):
            if any(exclusive.admits(other) for other in self.mailbox or ()):
                exclusive.invite(job)
            else:
                await exclusive.door(self.stream)
        await self._serve(job)

    async def _admitted(self) -> Job | None:
        """While something runs alone: the first request that it waits for; None when it is worth another look."""
        exclusive, mailbox = self.host.exclusive, self.mailbox
        assert mailbox is not None
        for place, job in enumerate(mailbox):
            if self.leaving or exclusive.admits(job):
                del mailbox[place]
                return job
        await exclusive.door(self.stream)
        return None

    async def _serve(self, job: Job) -> None:
        try:
            await actor_turn.run(self, job)
        except Exception as error:
            self.host.unknown(job, OutcomeUnknownError(f"{self.stream}: {error!r}", stream=self.stream))
            raise

    def _inactive(self, error: Exception) -> None:
        """The actor can't be activated; nothing of what waits was run."""
        host, self._task = self.host, None
        host.drop(self)
        if self._resumed:
            host.log.error("%s can't be resumed: %s", self.stream, error)
            if isinstance(error, StoreUnavailableError):
                host.wake_at(host.clock.now() + actor_commit.REVISIT, self.stream)
        while self.mailbox:
            host.fail(self.mailbox.popleft(), error, ran=False)

    def redirect_all(self) -> None:
        """Send everything that waits here to the actor's next cell."""
        while self.mailbox:
            self.host.redirect(self.mailbox.popleft())

    # -- activation ----------------------------------------------------------------------------------------------

    async def activated(self) -> None:
        """Have the actor's state in memory. Raises what ``actor_state.load`` and the actor's own code raise."""
        while self.committed is None:
            if self._activating is None:
                self._activating = self.spawn(self._activate(), "loom activate")
            await asyncio.shield(self._activating)

    async def _activate(self) -> None:
        try:
            committed = await actor_state.load(self)
            base = self.kind.cls.__new__(self.kind.cls)
            turn = Turn(self, Message(id="", kind=Kind.CALL, stream=self.stream), None, None, 0.0)
            base._turn = turn
            base.__init__()  # type: ignore[misc]
            if committed.state is None:
                committed.state = encode(base.initial_state())
            if type(base).on_activate is not Actor.on_activate:
                turn.state = actor_state.decode_state(self, committed.state)
                before = encode(turn.state)
                async with asyncio.timeout(self.host.options.turn_deadline):
                    await base.on_activate()
                if encode(turn.state) != before:
                    raise ReadOnlyViolationError(f"{self.stream}: on_activate changed the state; only turns may")
            turn.closed = True
            self.attributes = base.__dict__
            self.committed = committed
        finally:
            self._activating = None

    def facade(self, turn: Turn) -> Actor[Any]:
        """The actor as one invocation sees it: its own turn, the activation's attributes."""
        assert self.attributes is not None
        facade = self.kind.cls.__new__(self.kind.cls)
        facade.__dict__ = self.attributes
        facade._turn = turn
        return facade

    def copy_state(self) -> Any:
        """A copy of the committed state, for one invocation."""
        assert self.committed is not None
        assert self.committed.state is not None
        return self.kind.decode_state(self.committed.state)

    def encode_state(self, turn: Turn) -> bytes:
        """The state that a turn has left. Raises InvalidResultError when it could not be read back."""
        data = encode(turn.state)
        actor_state.check_state(self, data)
        return data
