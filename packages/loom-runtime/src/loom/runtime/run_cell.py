"""A workflow run in memory: its execution, what it waits for, and its journal."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from ..codec import encode
from ..errors import (
    CallError,
    JournalConflictError,
    LoomError,
    NotRunningError,
    OutcomeUnknownError,
    OverloadedError,
    PortError,
    RunNotFoundError,
    StoreUnavailableError,
    TooLargeError,
)
from ..ports import Head, Snapshot
from ..workflow import Workflow
from .cell import Cell
from .commands import Command
from .crashpoints import crash_point
from .deadlines import Deadline
from .entries import ChildStarted, Event, RunContinued, RunFinished, RunStarted, Sent, encode_entry
from .execution import Execution
from .job import Job
from .messages import READS, Kind, Message, Reply
from .pending import PendingRecord, run_record
from .run_history import RunHistory
from .run_record import NEVER, RunRecord
from .run_replay import began, read_history, replay
from .run_requests import check_life, status, take
from .run_retry import decide
from .run_status import RunOutcome
from .run_work import WORK, RunWork

if TYPE_CHECKING:
    from .host import Host

__all__ = ["RunCell"]

_TRANSIENT = (OutcomeUnknownError, StoreUnavailableError)
_MESSAGES = (Sent, ChildStarted)
_PARK = 5.0

Waiting = list[tuple[Job, bytes]]


class RunCell(Cell):
    """One run. Events come in from requests, steps, calls and timers; those of one moment share an entry."""

    __slots__ = ("_inputs", "_loaded", "_mailbox", "_news", "_record", "_results", "_sent", "_worker", "execution",
                 "run_history", "run_id", "work", "workflow")  # fmt: skip

    def __init__(self, host: Host, stream: str, workflow: Workflow[Any, Any], run_id: str) -> None:
        super().__init__(host, stream)
        self.workflow = workflow
        self.run_id = run_id
        self.run_history = RunHistory()
        self.execution: Execution | None = None
        self._loaded = False
        self._mailbox: list[Job] = []
        self._inputs: list[Event] = []
        self._results: dict[Job, Deadline] = {}
        self.work = RunWork()
        self._record = RunRecord()
        self._sent: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a step or call is under way, or an entry on its way."""
        return bool(self._worker or self.work.tasks)

    @property
    def idle(self) -> bool:
        """Whether the run only waits for time, signals or children, so that it may leave memory."""
        return not (self._worker or self.work.tasks or self._mailbox or self._inputs or self._results)

    @property
    def settled(self) -> bool:
        """Whether the run was loaded and its steps have ended; requests to it may still wait for their turn."""
        return self.retired or (self._loaded and not self.work.tasks)

    def deliver(self, job: Job) -> None:
        """Take a request."""
        self.used_at = self.host.clock.monotonic()
        if len(self._mailbox) >= self.host.options.mailbox_limit:
            self.host.refuse(job, OverloadedError(f"{self.stream}: {len(self._mailbox)} requests wait already"))
            return
        self._mailbox.append(job)
        self.resume()

    def resume(self) -> None:
        """Load if need be, and work off what has come in."""
        if self._worker is None:
            if not self.retired:
                self._worker = self.spawn(self._work(), "loom run")
        elif self._news is not None:
            self._news.set_result(None)
            self._news = None

    async def deactivate(self) -> None:
        """Leave memory; while a run waits, its pending record says when it must be back.

        A request that comes while that is written keeps the run here, and its record as it was.
        """
        waiting = self.execution is not None and self.execution.finished is None and not self.work.tasks
        sleeps = waiting and self._record.value is not None and not self.host.stopping
        if sleeps and not await self._record.sleep_until(self, self._next_due()):
            return
        self.retired = True
        self._release()
        self._dismiss()

    def _next_due(self) -> float:
        assert self.execution is not None
        dues = [getattr(command, "due", None) for command in self.execution.waiting.values()]
        return min((due for due in dues if due is not None), default=NEVER)

    def _release(self) -> None:
        self.work.release(self)
        self.resume()
        if self.execution is not None:
            self.execution.close()

    def _dismiss(self) -> None:
        """Send away everybody who waits here: to the run's next cell, or home when the host stops."""
        jobs = [*self._mailbox, *self._results]
        for timer in self._results.values():
            timer.cancel()
        self._mailbox, self._results = [], {}
        for job in jobs:
            if self.host.stopping and job.delivery is None:
                self.host.refuse(job, NotRunningError("this host is stopping; ask again", stream=self.stream))
            else:
                self.host.redirect(job)

    def feed(self, event: Event) -> None:
        """Take what came of a step, a call or a timer."""
        if not self.retired:
            self._inputs.append(event)
            self.resume()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            if not self._loaded:
                if self._looks_new():
                    self._loaded = True
                else:
                    await self._load()
            while not self.retired:
                if self._mailbox or self._inputs:
                    await self._round()
                elif self.work.tasks:  # to wait for what they bring costs less than to begin anew
                    self._news = asyncio.get_running_loop().create_future()
                    await self._news
                else:
                    break
        except Exception as error:
            await self._stop(error)
        finally:
            self._worker = self._news = None
            if self.retired:
                self._release()
                self.host.drop(self)
                self._dismiss()

    def _looks_new(self) -> bool:
        """Whether to begin without asking the journal.
        If the run exists after all, its head refuses the first entry.
        """
        if not self._mailbox:
            return False
        job = self._mailbox[0]
        again = job.redirects or (job.delivery is not None and job.delivery.attempts)
        return job.message.kind in (Kind.START, Kind.RUN) and not again

    async def _stop(self, error: Exception) -> None:
        """The run can't go on here. Its journal is untouched;
        it is tried anew when asked again, and by the next host.
        """
        host = self.host
        self.retired = True
        text = str(error)
        host.log.error("%s", text if text.startswith(self.stream) else f"{self.stream}: {text}")
        if isinstance(error, _TRANSIENT):
            host.wake_at(host.clock.now() + 1.0, self.stream)
        else:
            await self._record.stopped(self, error)
        failure = error if isinstance(error, LoomError) else CallError(f"{self.stream}: {error!r}", stream=self.stream)
        jobs, self._mailbox = self._mailbox, []
        for job in [*jobs, *self._results]:
            if job.message.kind is Kind.STATUS and self.run_history.started is not None:
                host.answer(job, Reply(job.message.id, encode(status(self, failure))))
            elif job.delivery is not None and job.message.kind not in READS and not job.message.reply_to:
                self.spawn(host.inbox.retry(job.delivery, _PARK), "loom park")
            else:
                host.fail(job, failure)
        for timer in self._results.values():
            timer.cancel()
        self._results.clear()

    async def _round(self) -> None:
        jobs, self._mailbox = self._mailbox, []
        inputs, self._inputs = self._inputs, []
        waiting: Waiting = []
        try:
            while jobs and not self.retired:
                await self._accept(jobs.pop(0), inputs, waiting)
            if self.retired:
                return
            applied, outputs, asked = self._apply(inputs)
        except Exception:
            self._mailbox[:0] = [job for job, _ in waiting]
            raise
        finally:
            self._mailbox[:0] = jobs
        await self._commit([*applied, *outputs], outputs, asked, waiting)

    async def _accept(self, job: Job, inputs: list[Event], waiting: Waiting) -> None:
        host, kind = self.host, job.message.kind
        if kind in READS and self.run_history.started is None and inputs:
            self._mailbox.append(job)  # it asks about a beginning that is not durable yet
            return
        if not await host.may_start(job):
            return
        try:
            if kind is Kind.RESULT and self.run_history.started is not None:
                self._await_result(job)
            elif kind is Kind.RETRY:
                await self._retry(job)
            else:
                waiting.append((job, take(self, job, inputs)))
        except Exception as error:
            host.fail(job, error)
        finally:
            host.turn_ended(job)

    def _apply(self, inputs: list[Event]) -> tuple[list[Event], list[Event], list[Command]]:
        if not inputs:
            return [], [], []
        execution = self.execution
        first = inputs[0]
        if isinstance(first, RunStarted):
            execution = self.execution = self.new_execution(first.incarnation)
        assert execution is not None
        applied = []
        for event in inputs:
            if execution.expects(event):
                execution.apply(event)
                applied.append(event)
        outputs, asked = execution.take()
        return applied, outputs, asked

    async def _commit(self, events: list[Event], outputs: list[Event], asked: list[Command], waiting: Waiting) -> None:
        """Append, then answer, send and carry out. Nothing of the entry has any effect before it is durable."""
        host = self.host
        continued = outputs[-1] if outputs and isinstance(outputs[-1], RunContinued) else None
        if continued is not None:
            now = host.clock.now()
            continued.requests = {r: until for r, until in self.run_history.requests.items() if until > now}
        if events and not await self._append(events, waiting):
            return
        crash_point("run.pending")
        if events and isinstance(events[0], RunStarted):
            self.run_history.started = events[0]
            self.run_history.since = self.run_history.since or events[0].at
        outgoing = [e.message for e in outputs if isinstance(e, _MESSAGES)]
        sent = self._send(outgoing) if outgoing else self._sent
        for job, reply in waiting:
            if job.message.kind is Kind.RUN:
                self._await_result(job)
            else:
                host.answer(job, Reply(job.message.id, reply), sent)
        for command in asked:
            self.work.launch(self, command)
        if self.execution is not None:
            self.work.keep_only(self, self.execution.waiting)
        if outputs and isinstance(outputs[-1], RunFinished):
            self._finished(outputs[-1])
        elif continued is not None:
            await self._continued(continued)

    async def _append(self, events: list[Event], waiting: Waiting) -> bool:
        host, started = self.host, events[0]
        try:
            if self.head.seq == 0 and isinstance(started, RunStarted):
                recording = self._record.begin(self, started)
                try:
                    await self.append(events)
                finally:
                    if not recording.done():
                        await asyncio.wait([recording])
                if (failure := recording.exception()) is not None:
                    raise OutcomeUnknownError(f"{self.stream} has begun, but its record can't be written: {failure}",
                                              stream=self.stream) from failure  # fmt: skip
                if not recording.result() and self._record.value is not None:
                    await self._record.put(self, self._record.value)
            else:
                await self.append(events)
                self._record.got_through(self)
        except JournalConflictError:
            self.retired = True
            await host.placement.reread()
            if host.placement.has(self.stream, self.shard):
                host.wake_at(host.clock.now(), self.stream)
            for job, _ in waiting:
                host.redirect(job)
            return False
        except TooLargeError:
            self._mailbox[:0] = [job for job, _ in waiting]
            raise
        except (OutcomeUnknownError, PortError) as error:
            self.retired = True
            host.wake_at(host.clock.now() + 1.0, self.stream)
            for job, _ in waiting:
                if isinstance(error, OutcomeUnknownError):
                    host.unknown(job, error)
                else:
                    host.fail(job, error)
            return False
        return True

    def _send(self, messages: list[Message]) -> asyncio.Future[None]:
        self._sent = self.host.outbox.send(messages)
        return self._sent

    def tell(self, message: Message) -> None:
        """Send a message that needs no entry: the request that it answers comes again until it is queued."""
        self._send([message])

    def _finished(self, event: RunFinished) -> None:
        crash_point("run.finished")
        self.run_history.finished = event
        self._release()
        reply = encode(RunOutcome(event.status, event.value, event.error))
        for job, timer in self._results.items():
            timer.cancel()
            self.host.answer(job, Reply(job.message.id, reply))
        self._results.clear()
        if event.outgoing:
            self._send(event.outgoing)
        self._close_record(event)

    def _close_record(self, event: RunFinished) -> None:
        """Only when everything that the run had to send is queued, its record stops being work in hand."""
        if self._sent is not None and not self._sent.done():
            self._sent.add_done_callback(lambda _: self._close_record(event))
            return
        self._record.close(self, event).add_done_callback(self._closed)

    def _closed(self, _: asyncio.Future[bool]) -> None:
        if self.idle and not self.retired:
            # The journal holds the outcome; a host that has run a million runs keeps none of them in memory.
            self.host.drop(self)

    async def _continued(self, event: RunContinued) -> None:
        host, history = self.host, self.run_history
        self._release()
        self.work.began.clear()
        started = history.started
        assert started is not None
        head = self.head
        if head.seq - head.snapshot_seq >= host.options.snapshot_every:
            if self._sent is not None:  # what is behind a snapshot is not read again, and so not sent again
                await asyncio.wait([self._sent])
            data = encode_entry([RunStarted(started.message, history.since, started.incarnation), event], host.codecs)
            # A snapshot saves reading, no more: the run goes on without it.
            with contextlib.suppress(PortError):
                await host.journal.write_snapshot(self.stream, Snapshot(head.seq, data))
                self.head = Head(head.seq, head.entry_id, head.fence, head.seq)
                crash_point("snapshot.written")
                if head.seq > host.options.retain_entries:
                    await host.journal.trim(self.stream, head.seq - host.options.retain_entries)
        history.add(head.seq, [event])
        self._inputs = history.begin_again

    # -- requests that take longer -------------------------------------------------------------------------------

    async def _retry(self, job: Job) -> None:
        host, message, now = self.host, job.message, self.host.clock.now()
        history = await read_history(self)
        if history.started is None:
            raise RunNotFoundError(
                f"no run {self.run_id!r} of {self.workflow.name}", workflow=self.workflow.name, run_id=self.run_id
            )
        if message.id in history.requests:
            host.answer(job, Reply(message.id, encode(True)))
            return
        check_life(self, message, now)
        if history.finished is None or history.finished.status == "completed":
            state = "running" if history.finished is None else history.finished.status
            raise CallError(
                f"{self.stream} is {state}; only failed and cancelled runs can be retried", stream=self.stream
            )
        trial = self.new_execution(history.started.incarnation, history)
        try:
            event = decide(history, trial, now, message.id)
        finally:
            trial.close()
        await self._record.put(self, run_record(self.stream, due=now, status="running", since=self.run_history.since))
        if await self._append([event], [(job, b"")]):
            host.answer(job, Reply(message.id, encode(True)))
            self.retired = True
            host.wake_at(now, self.stream)

    def _await_result(self, job: Job) -> None:
        finished = self.run_history.finished
        if finished is not None:
            outcome = RunOutcome(finished.status, finished.value, finished.error)
            self.host.answer(job, Reply(job.message.id, encode(outcome)))
            return
        wait = max(0.0, job.message.deadline - self.host.clock.now())
        self._results[job] = self.host.deadlines.after(wait, partial(self._still_running, job))

    def _still_running(self, job: Job) -> None:
        if self._results.pop(job, None) is not None:
            self.host.answer(job, Reply(job.message.id, encode(RunOutcome("running"))))

    def new_execution(self, incarnation: int, history: RunHistory | None = None) -> Execution:
        """A fresh execution; of a run that is replayed, with what ``history`` has recorded of it."""
        host = self.host
        return Execution(
            self.stream, self.run_id, self.workflow, host.steps, host.resources, host.options.message_life,
            incarnation=incarnation, versions=history.versions if history is not None else None,
            published=self.run_history.published, retries=history.retries if history is not None else None,
            max_bytes=host.options.max_message_bytes,
        )  # fmt: skip

    # -- loading -------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        host = self.host
        history = self.run_history = await read_history(self)
        if history.started is None:
            self._loaded = True
            if not self._mailbox:
                # Resumed for a record whose first entry was never written: nothing was promised to anybody.
                await host.pending.remove(self.shard, self.stream)
            return
        record = await self._record.load(self)
        history.since = record.since or history.since
        finished = history.finished
        if finished is None:
            await self._replay(record)
        elif record.due is not None or record.status != finished.status:
            if messages := self._promised():
                self._send(messages)
            self._close_record(finished)
        self._loaded = True

    def _promised(self) -> list[Message]:
        """What a crash may have kept from the queue; messages that were queued are recognised by their ids."""
        now = self.host.clock.now()
        return [m for m in self.run_history.promised if not m.expires_at or now < m.expires_at]

    async def _replay(self, record: PendingRecord) -> None:
        history, now = self.run_history, self.host.clock.now()
        assert history.started is not None
        asked: list[Command] = []
        left: list[Event] = []
        messages: list[Message] = []
        if history.begin_again:
            self._inputs = [*history.begin_again, *self._inputs]
        else:
            execution = self.execution = self.new_execution(history.started.incarnation, history)
            left, messages = replay(self.stream, history, execution, now)
            self.work.began = began(history)
            asked = list(execution.waiting.values())
        quiet = not self._inputs and not any(isinstance(command, WORK) for command in asked)
        late = record.due is None or record.due > now or record.status != "running"
        if late or (quiet and record.resumed):
            record.due = now if late else record.due
            record.status, record.ended, record.error = "running", None, None
            record.resumed = 0 if quiet else record.resumed
            await self._record.put(self, record)
        if messages := [*self._promised(), *messages]:
            await self._send(messages)
        if history.begin_again:
            return
        await self._commit(left, left, asked, [])
