"""An actor in memory: its mailbox, its turns, what it remembers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..actor import Actor, ActorType, Handler
from ..codec import encode, error_info
from ..errors import (
    IdempotencyConflictError,
    JournalConflictError,
    LeftoverTasksError,
    LoomError,
    MessageExpiredError,
    OutcomeUnknownError,
    OverloadedError,
    ReadOnlyViolationError,
    StoreUnavailableError,
    TooLargeError,
    UnknownMethodError,
)
from ..interceptors import TurnInfo, nest
from ..references import ActorMethod
from . import actor_state
from .actor_state import Committed
from .cell import Cell
from .crashpoints import crash_point
from .entries import Reminder, TurnBegan, TurnCommitted, TurnStep
from .job import Job
from .messages import Kind, Message, Reply, actor_stream, derived_id, run_stream
from .pending import PendingRecord
from .turn import Turn, check_size, current_turn, leftover

if TYPE_CHECKING:
    from .host import Host

__all__ = ["ActorCell"]

_GRACE = 5.0
_REVISIT = 1.0
_RUN_KINDS = {"start": Kind.START, "cancel": Kind.CANCEL}


class ActorCell(Cell):
    """One active actor. A task exists only while there is something to do."""

    __slots__ = (
        "_activating", "_attributes", "_mailbox", "_reading", "_resumed", "_task", "committed", "committing",
        "confirmed_at", "key", "kind", "leaving", "pending_due", "turn",
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
        self._attributes: dict[str, Any] | None = None
        self._mailbox: deque[Job] | None = None
        self._reading = 0
        self._resumed = False
        self.leaving = False
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no turn, read or unsent message keeps the actor in memory."""
        return self._task is None and not self._mailbox and not self._reading

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
            self._reading += 1
            self.spawn(self._read(job, handler), "loom read")
            return
        if self._mailbox is None:
            self._mailbox = deque()
        if len(self._mailbox) >= self.host.options.mailbox_limit:
            self.host.refuse(job, OverloadedError(
                f"{self.stream}: {len(self._mailbox)} requests wait already; nothing was run, try again later",
                stream=self.stream,
            ))  # fmt: skip
            return
        self._mailbox.append(job)
        if self._task is None:
            self._task = self.spawn(self._run(), "loom actor")
        elif self.host.exclusive.busy:
            self.host.exclusive.knock(self.stream)

    def resume(self) -> None:
        """Finish what the journal says is unfinished: called by recovery and by reminders."""
        self._resumed = True
        if self._mailbox is None:
            self._mailbox = deque()
        if self._task is None:
            self._task = self.spawn(self._run(), "loom actor")

    def hold(self) -> None:
        """A queued message is to be tried again: those behind it go back too, so that they stay behind it."""
        later = [job for job in self._mailbox or () if job.delivery is not None]
        if later and self._mailbox is not None:
            self._mailbox = deque(job for job in self._mailbox if job.delivery is None)
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
            turn = Turn(self, Message(id="", kind=Kind.CALL, stream=self.stream), None, self._copy(), 0.0)
            try:
                async with asyncio.timeout(self.host.options.turn_deadline):
                    await self._facade(turn).on_deactivate()
            except Exception as error:
                self.host.log.warning("%s: on_deactivate failed: %r", self.stream, error)
            turn.closed = True

    # -- the mailbox ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        host = self.host
        try:
            await self._activated()
        except Exception as error:
            self._inactive(error)
            return
        try:
            assert self.committed is not None
            if self.committed.unsent:
                self._resend(self.committed)
            if self.committed.unfinished is not None:
                await self._finish(Job(self.committed.unfinished.message))
            while not self.retired:
                while self._mailbox and not self.retired:
                    job = self._mailbox.popleft() if not host.exclusive.busy else await self._admitted()
                    if job is None:
                        continue
                    if self.leaving and not job.message.chain:
                        host.redirect(job)
                    else:
                        await self._serve(job)
                if not self.retired and not await self._settle():
                    break
        except Exception as error:
            host.log.warning("%s: it leaves memory and is read again: %r", self.stream, error)
            self._unsure()
        finally:
            self._task = self.turn = None
            self._resumed = False
            if self.retired:
                host.drop(self)
                self._redirect_all()
            if not self._mailbox:
                self._mailbox = None  # an empty deque of an idle actor would be the largest thing about it

    async def _finish(self, job: Job) -> None:
        """Finish the turn that is unfinished, before anything else; also while something runs alone and waits here."""
        exclusive = self.host.exclusive
        while not exclusive.admits(job):
            if any(exclusive.admits(other) for other in self._mailbox or ()):
                exclusive.invite(job)
            else:
                await exclusive.door(self.stream)
        await self._serve(job)

    async def _admitted(self) -> Job | None:
        """While something runs alone: the first request that it waits for; None when it is worth another look."""
        exclusive, mailbox = self.host.exclusive, self._mailbox
        assert mailbox is not None
        for place, job in enumerate(mailbox):
            if self.leaving or exclusive.admits(job):
                del mailbox[place]
                return job
        await exclusive.door(self.stream)
        return None

    async def _serve(self, job: Job) -> None:
        try:
            await self._turn(job)
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
                host.wake_at(host.clock.now() + _REVISIT, self.stream)
        while self._mailbox:
            host.fail(self._mailbox.popleft(), error, ran=False)

    def _unsure(self) -> None:
        """Whoever activates next reads what became of things; nothing may be claimed here."""
        self.retired = True
        self.host.wake_at(self.host.clock.now() + _REVISIT, self.stream)

    def _redirect_all(self) -> None:
        while self._mailbox:
            self.host.redirect(self._mailbox.popleft())

    async def _activated(self) -> None:
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
            self._attributes = base.__dict__
            self.committed = committed
        finally:
            self._activating = None

    async def _settle(self) -> bool:
        """Bring the pending record in line with the journal; say whether there is more to do."""
        committed = self.committed
        assert committed is not None
        if committed.sending is not None:
            await committed.sending
            committed.sending = None
        now = self.host.clock.now()
        if any(reminder.due <= now for reminder in committed.reminders.values()):
            await self._fire(committed, now)
            return True
        due = min((r.due for r in committed.reminders.values()), default=None)
        if due != self.pending_due:
            if due is None:
                await self.host.pending.remove(self.shard, self.stream)
            else:
                await self.host.pending.put(self.shard, PendingRecord(stream=self.stream, due=due))
            self.pending_due = due
        if due is not None:
            self.host.wake_at(due, self.stream)
        return bool(self._mailbox)

    def _resend(self, committed: Committed) -> None:
        """Hand over what the last host may not have sent, before anything newer leaves."""
        for seq, messages in sorted(committed.unsent.items()):
            committed.sending = self._hand_over(committed, seq, messages)

    def _hand_over(self, committed: Committed, seq: int, messages: list[Message]) -> asyncio.Future[None]:
        sending = self.host.outbox.send(messages)
        sending.add_done_callback(partial(_on_sent, committed, seq))
        return sending

    async def _fire(self, committed: Committed, now: float) -> None:
        """Turn due reminders into messages to this actor: from here they are ordinary sends."""
        due = sorted((r for r in committed.reminders.values() if r.due <= now), key=lambda r: (r.due, r.name))
        life = self.host.options.message_life
        outgoing = [
            Message(id="", kind=Kind.SEND, stream=self.stream, method=r.method, args=r.args, sent_at=now,
                    expires_at=now + life) for r in due
        ]  # fmt: skip
        fired = TurnCommitted(
            request="", method="(reminder)", at=now, state=None, version=self.kind.state_version,
            outgoing=outgoing, forgotten=[r.name for r in due], sent=committed.sent,
        )  # fmt: skip
        try:
            await self._ensure_pending(now)
            await self._commit(fired)
            crash_point("reminder.fired")
        except JournalConflictError:
            await self._conflict()
            self._unsure()

    # -- a turn --------------------------------------------------------------------------------------------------

    async def _turn(self, job: Job) -> None:
        host, message, committed = self.host, job.message, self.committed
        assert committed is not None
        self.used_at = host.clock.monotonic()
        if job.future is not None and job.future.done():
            return  # whoever asked has gone, and nothing was run
        answered = self._recall(message, committed)
        if answered is not None:
            host.answer(job, answered, committed.sending if committed.unsent else None)
            return
        now, unfinished = host.clock.now(), committed.unfinished
        if message.expires_at and now >= message.expires_at and unfinished is None:
            host.refuse(job, MessageExpiredError(
                f"{self.stream}.{message.method}: the request expired {now - message.expires_at:.1f} s ago and was "
                "not run; send it again as a new request", stream=self.stream, request_id=message.id,
            ))  # fmt: skip
            return
        if not await host.may_start(job):
            return
        crash_point("turn.begin")
        limit = self.kind.cls.turn_deadline or host.options.turn_deadline
        turn = self.turn = Turn(
            self, message, self.kind.handlers.get(message.method), None, host.clock.monotonic() + limit, job
        )
        if unfinished is not None:
            turn.began = True
            turn.memo = unfinished.steps
        host.turns_running += 1
        try:
            result, state = await self._handle(turn, limit)
        except asyncio.CancelledError:
            if not turn.abandoned:
                host.interrupted(job)
                raise
        except Exception as error:
            await self._close(turn)
            if not turn.abandoned:
                await self._failed(job, turn, error)
        else:
            await self._close(turn)
            if not turn.abandoned:
                await self._succeeded(job, turn, result, state)
        finally:
            self._end(turn)

    async def _handle(self, turn: Turn, limit: float) -> tuple[bytes, bytes]:
        handler = self._handler(turn.message)
        args = handler.signature.decode(turn.message.args)
        turn.state = self._copy()
        value = await self._invoke(turn, handler, args, limit)
        crash_point("turn.handled")
        return handler.signature.encode_result(value), self._encode_state(turn)

    async def _close(self, turn: Turn) -> None:
        self._end(turn)
        if turn.recording:
            await turn.recorded()

    def _end(self, turn: Turn) -> None:
        """The handler is done with, once: from here nothing that it left behind can reach the turn."""
        turn.closed = True
        if not turn.ended and turn.job is not None:
            turn.ended = True
            self.host.turns_running -= 1
            self.host.turn_ended(turn.job)
            if self.turn is turn:
                self.turn = None

    def _handler(self, message: Message) -> Handler:
        handler = self.kind.handlers.get(message.method)
        if handler is None:
            raise UnknownMethodError(
                f"{self.kind.name} has no handler {message.method!r}; it has: {', '.join(self.kind.handlers)}",
                actor=self.kind.name,
                method=message.method,
            )
        return handler

    async def _invoke(self, turn: Turn, handler: Handler, args: dict[str, Any], limit: float) -> Any:
        instance = self._facade(turn)
        task = asyncio.current_task()
        assert task is not None
        watchdog = self.host.deadlines.after(limit, partial(self._overdue, turn, task))
        token = current_turn.set(turn)
        try:
            if self.host.interceptors:
                info = TurnInfo(
                    stream=self.stream, method=handler.name, request_id=turn.message.id, read_only=handler.read_only
                )
                proceed = nest(self.host.interceptors, "turn", info, lambda: handler.function(instance, **args))
                value = await proceed()
            else:
                value = await handler.function(instance, **args)
            if turn.timed_out:
                raise turn.deadline_error()
        except asyncio.CancelledError as error:
            if turn.timed_out and not turn.abandoned:
                raise turn.deadline_error() from None
            if turn.abandoned or (task is not None and task.cancelling()):
                raise
            raise RuntimeError(f"{turn.where} raised CancelledError by itself") from error
        except SystemExit as error:
            raise RuntimeError(f"{turn.where} tried to exit the process: {error!r}") from error
        finally:
            current_turn.reset(token)
            watchdog.cancel()
            if turn.timed_out and task is not None:
                task.uncancel()
            strays = leftover(turn) if turn.tasks else []
            for stray in strays:
                stray.cancel()
        if strays:
            names = ", ".join(str(getattr(stray.get_coro(), "__qualname__", stray.get_name())) for stray in strays)
            raise LeftoverTasksError(
                f"{turn.where} returned while tasks that it had started still ran: {names}. They were cancelled and "
                "nothing was committed; await them, or use ctx.send or a workflow",
                where=turn.where,
            )
        return value

    def _overdue(self, turn: Turn, task: asyncio.Task[Any]) -> None:
        if turn.closed or turn.timed_out:
            return
        turn.timed_out = True
        task.cancel()
        self.host.deadlines.after(_GRACE, partial(self._abandon, turn))

    def _abandon(self, turn: Turn) -> None:
        """A handler that swallowed its cancellation is left behind; the actor goes on without it."""
        if turn.ended or turn.closed:
            return
        turn.abandoned = True
        if turn.job is None:
            turn.closed = True
            return
        reading = turn.handler is not None and turn.handler.read_only
        self._end(turn)
        if reading:
            self._reading -= 1
            self.host.fail(turn.job, turn.deadline_error())
        else:
            self.spawn(self._give_up(turn, turn.job), "loom give up")

    async def _give_up(self, turn: Turn, job: Job) -> None:
        try:
            await turn.recorded()
            await self._failed(job, turn, turn.deadline_error())
        finally:
            self.retired = True
            self.host.drop(self)
            self._redirect_all()

    async def _succeeded(self, job: Job, turn: Turn, result: bytes, state: bytes) -> None:
        host, message, committed = self.host, job.message, self.committed
        assert committed is not None
        effects = turn.effects
        now = host.clock.now()
        entry = TurnCommitted(
            request=message.id, method=message.method, at=now, state=state, version=self.kind.state_version,
            result=result, remember_until=self._remember_until(message, now),
            fingerprint=message.fingerprint, outgoing=effects.outgoing, reminders=effects.reminders,
            forgotten=effects.forgotten, sent=committed.sent,
        )  # fmt: skip
        try:
            if len(state) + len(result) > host.options.max_message_bytes:
                raise TooLargeError(
                    f"{turn.where}: state ({len(state)} bytes) and result ({len(result)}) exceed max_message_bytes "
                    f"({host.options.max_message_bytes}); keep large values in a BlobStore and refer to them",
                    stream=self.stream,
                )
            if effects.reminders or (effects.outgoing and job.delivery is None):
                dues = [r.due for r in effects.reminders]
                await self._ensure_pending(now if effects.outgoing and job.delivery is None else min(dues))
                crash_point("turn.pending")
            sending = await self._commit(entry)
        except JournalConflictError:
            await self._conflict()
            host.redirect(job)
        except OutcomeUnknownError as error:
            self._unsure()
            host.unknown(job, error)
        except Exception as error:
            await self._failed(job, turn, error)
        else:
            crash_point("turn.committed")
            host.answer(job, Reply(message.id, result), sending)
            if committed.entries_since_snapshot >= host.options.snapshot_every:
                await actor_state.snapshot_when_worth(self)

    async def _failed(self, job: Job, turn: Turn, error: Exception) -> None:
        host, message, committed = self.host, job.message, self.committed
        assert committed is not None
        unfinished, final = committed.unfinished is not None, host.is_final(error)
        # An answer that may be asked for again must stay the same answer.
        keep = message.remember and message.kind is not Kind.SEND and final
        if unfinished and not final:
            self._leave_unfinished(job, error)
            return
        if unfinished or keep:
            now = host.clock.now()
            entry = TurnCommitted(
                request=message.id, method=message.method, at=now, state=None, version=self.kind.state_version,
                error=error_info(error), remember_until=self._remember_until(message, now) if keep else 0.0,
                fingerprint=message.fingerprint, sent=committed.sent,
            )  # fmt: skip
            try:
                await self._commit(entry)
            except JournalConflictError:
                await self._conflict()
                host.redirect(job)
                return
            except OutcomeUnknownError as unknown:
                self._unsure()
                host.unknown(job, unknown)
                return
            except LoomError as commit_error:
                if unfinished:
                    self._leave_unfinished(job, commit_error)
                else:
                    host.fail(job, commit_error)
                return
        host.fail(job, error)

    def _leave_unfinished(self, job: Job, error: Exception) -> None:
        """Steps of the turn are recorded and its end could not be: whoever activates next finishes it."""
        self._unsure()
        unknown = OutcomeUnknownError(
            f"{self.stream}.{job.message.method} has begun and will be finished later; for now: {error}",
            stream=self.stream,
        )
        unknown.__cause__ = error
        self.host.unknown(job, unknown)

    def _remember_until(self, message: Message, now: float) -> float:
        """Until when to keep the answer: as long as the request may come again, and somewhat longer than its turn."""
        if not message.remember:
            return 0.0
        options = self.host.options
        return max(message.expires_at or now + options.idempotency_window, now + options.call_timeout, message.memory)

    async def _commit(self, entry: TurnCommitted) -> asyncio.Future[None] | None:
        """Append the entry and hand over its messages; when these are queued, the future is done."""
        committed = self.committed
        assert committed is not None
        entry_id = self.host.ids.next()
        for index, message in enumerate(entry.outgoing):
            if not message.id:
                message.id = f"{entry_id}/{index}"
        self.committing = asyncio.get_running_loop().create_future()
        try:
            await self.append_as(entry_id, [entry])
        finally:
            self.committing.set_result(None)
            self.committing = None
        committed.apply(self.head.seq, entry, self.host.clock.now())
        self.confirmed_at = self.host.clock.monotonic()
        if not entry.outgoing:
            return None
        committed.sending = self._hand_over(committed, self.head.seq, entry.outgoing)
        return committed.sending

    async def _ensure_pending(self, due: float) -> None:
        if self.pending_due is None or due < self.pending_due:
            await self.host.pending.put(self.shard, PendingRecord(stream=self.stream, due=due))
            self.pending_due = due

    async def _conflict(self) -> None:
        """Somebody else has written: learn who owns the shard before anything is activated again.

        Until then requests still queue up here, so that they go on in their order.
        """
        try:
            await self.host.placement.reread()
        except Exception as error:
            self.host.log.warning("%s: the owner of its shard can't be read: %s", self.stream, error)
        self.retired = True
        self.host.drop(self)

    def _recall(self, message: Message, committed: Committed) -> Reply | None:
        remembered = committed.recall(message.id)
        if remembered is None:
            return None
        if remembered.fingerprint != message.fingerprint:
            return Reply(message.id, error=error_info(IdempotencyConflictError(
                f"{self.stream}.{message.method}: the idempotency key {message.id.split('/', 2)[-1]!r} was used "
                f"with other "
                "arguments; use a new key for a new request", stream=self.stream, request_id=message.id,
            )))  # fmt: skip
        return Reply(message.id, remembered.result, remembered.error)

    def _facade(self, turn: Turn) -> Actor[Any]:
        """The actor as one invocation sees it: its own turn, the activation's attributes."""
        assert self._attributes is not None
        facade = self.kind.cls.__new__(self.kind.cls)
        facade.__dict__ = self._attributes
        facade._turn = turn
        return facade

    def _copy(self) -> Any:
        assert self.committed is not None
        assert self.committed.state is not None
        return self.kind.decode_state(self.committed.state)

    def _encode_state(self, turn: Turn) -> bytes:
        data = encode(turn.state)
        actor_state.check_state(self, data)
        return data

    # -- reads ---------------------------------------------------------------------------------------------------

    async def _read(self, job: Job, handler: Handler) -> None:
        host, turn = self.host, None
        if not await host.may_start(job):
            self._reading -= 1
            return
        try:
            await self._activated()
            if not await self._fresh(handler):
                await self._conflict()
                host.redirect(job)
                return
            args = handler.signature.decode(job.message.args)
            limit = self.kind.cls.turn_deadline or host.options.turn_deadline
            turn = Turn(self, job.message, handler, self._copy(), host.clock.monotonic() + limit, job)
            host.turns_running += 1
            before = encode(turn.state)
            value = await self._invoke(turn, handler, args, limit)
            if encode(turn.state) != before:
                raise ReadOnlyViolationError(f"{turn.where} changed the state; it is @read_only", where=turn.where)
            if not turn.abandoned:
                host.answer(job, Reply(job.message.id, handler.signature.encode_result(value)))
        except asyncio.CancelledError:
            if turn is None or not turn.abandoned:
                host.interrupted(job)
                raise
        except Exception as error:
            if turn is None or not turn.abandoned:
                host.fail(job, error, ran=turn is not None)
        finally:
            if turn is None:
                host.turn_ended(job)
            else:
                self._end(turn)
            if turn is None or not turn.abandoned:
                self._reading -= 1

    async def _fresh(self, handler: Handler) -> bool:
        """Whether the committed state is still the stream's newest, as far as the handler asks."""
        host = self.host
        if host.placement.alone:
            return True
        if handler.stale_ok and host.clock.monotonic() - self.confirmed_at <= handler.stale_ok:
            return True
        while True:
            asked = host.clock.monotonic()
            head = await host.committer.confirm(self.stream)
            if (head.seq, head.entry_id) == (self.head.seq, self.head.entry_id) or head.seq < self.head.seq:
                self.confirmed_at = asked
                return True
            if self.committing is None:
                return False
            await asyncio.shield(self.committing)

    # -- what a turn asks for ------------------------------------------------------------------------------------

    async def record_step(
        self, turn: Turn, position: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        retries: int, timeout: float | None, name: str,
    ) -> TurnStep:  # fmt: skip
        """Run a step and record its result; before the first, make the turn one that recovery finishes."""
        host = self.host
        if not turn.began:
            await self.record(turn)
        outcome = await host.steps.run(self.stream, f"{turn.message.id}:{position}", name, function, args, kwargs,
                                       retries, timeout)  # fmt: skip
        turn.check_open()
        step = TurnStep(position, name, host.clock.now(), outcome.value, outcome.error)
        await self.record(turn, step)
        return step

    async def record(self, turn: Turn, step: TurnStep | None = None) -> None:
        """Append a step or an answer of the turn, after its beginning if that is not recorded.

        An append that has begun is always waited for, also when the handler is cancelled: the turn's end follows it.
        """
        task = self.host.background.spawn(self._record(turn, step), "loom record")
        if turn.recording is None:
            turn.recording = set()
        turn.recording.add(task)
        task.add_done_callback(turn.recording.discard)
        failure = await asyncio.shield(task)
        if failure is not None:
            raise failure

    async def _record(self, turn: Turn, step: TurnStep | None) -> Exception | None:
        committed, host = self.committed, self.host
        assert committed is not None
        try:
            async with turn.lock:
                turn.check_open()
                if not turn.began:
                    turn.began = True
                    await self._ensure_pending(host.clock.now())
                    began, calls = TurnBegan(turn.message, host.clock.now()), turn.calls or []
                    await self.append([began, *calls])
                    committed.begin(self.head.seq, began)
                    for call in calls:
                        committed.step(self.head.seq, call)
                if step is not None:
                    await self.append([step])
                    committed.step(self.head.seq, step)
        except Exception as error:
            return error
        return None

    def send_method(
        self, turn: Turn, method: ActorMethod, args: tuple[Any, ...], kwargs: dict[str, Any], delay: float
    ) -> None:
        """Collect a message to another actor."""
        encoded = method.handler.signature.encode(args, kwargs)
        turn.send(Kind.SEND, actor_stream(method.actor_type, method.key), method.handler.name, encoded, delay=delay)

    def send_to_run(self, turn: Turn, workflow: str, run_id: str, what: str, args: bytes) -> None:
        """Collect a message to a run: start, cancel, or signal:NAME."""
        kind, _, name = what.partition(":")
        request = derived_id("start", run_stream(workflow, run_id)) if kind == "start" else ""
        turn.send(_RUN_KINDS.get(kind, Kind.SIGNAL), run_stream(workflow, run_id), name, args, request=request)

    def set_reminder(
        self, turn: Turn, name: str, due: float, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Collect a reminder."""
        handler = self.kind.handlers.get(method)
        if handler is None:
            raise UnknownMethodError(
                f"remind({name!r}): {self.kind.name} has no handler {method!r}; it has: {', '.join(self.kind.handlers)}"
            )
        encoded = handler.signature.encode(args, kwargs)
        check_size(f"the arguments of reminder {name!r}", encoded, self.host.options.max_message_bytes)
        reminder = Reminder(name, due, method, encoded)
        turn.effects.reminders = [r for r in turn.effects.reminders if r.name != name] + [reminder]
        turn.effects.forgotten = [n for n in turn.effects.forgotten if n != name]


def _on_sent(committed: Committed, seq: int, future: asyncio.Future[None]) -> None:
    if not future.cancelled() and future.exception() is None:
        committed.unsent.pop(seq, None)
        if not committed.unsent:
            committed.sent = max(committed.sent, seq)
