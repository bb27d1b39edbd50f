"""A workflow run in memory: its execution, what it waits for, and its journal."""

from __future__ import annotations

import asyncio
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
    StoreUnavailableError,
    TooLargeError,
)
from ..workflow import Workflow
from . import run_loading
from .cell import Cell
from .commands import Command
from .crashpoints import crash_point
from .deadlines import Deadline
from .entries import ChildStarted, Event, RunContinued, RunFinished, RunStarted, Sent
from .execution import Execution
from .job import Job
from .messages import READS, Kind, Message, Reply
from .run_history import RunHistory
from .run_record import NEVER, RunRecord
from .run_requests import status, take
from .run_status import RunOutcome
from .run_work import RunWork

if TYPE_CHECKING:
    from .host import Host

__all__ = ["RunCell"]

_TRANSIENT = (OutcomeUnknownError, StoreUnavailableError)
_MESSAGES = (Sent, ChildStarted)
_PARK = 5.0

Waiting = list[tuple[Job, bytes]]


class RunCell(Cell):
    """One run. Events come in from requests, steps, calls and timers; those of one moment share an entry."""

    __slots__ = (
        "_loaded", "_news", "_results", "_worker", "execution", "inputs", "mailbox", "record", "run_history", "run_id",
        "sent", "work", "workflow",
    )  # fmt: skip

    def __init__(self, host: Host, stream: str, workflow: Workflow[Any, Any], run_id: str) -> None:
        super().__init__(host, stream)
        self.workflow = workflow
        self.run_id = run_id
        self.run_history = RunHistory()
        self.execution: Execution | None = None
        self._loaded = False
        self.mailbox: list[Job] = []
        self.inputs: list[Event] = []
        self._results: dict[Job, Deadline] = {}
        self.work = RunWork()
        self.record = RunRecord()
        self.sent: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a step or call is under way, or an entry on its way."""
        return bool(self._worker or self.work.tasks)

    @property
    def idle(self) -> bool:
        """Whether the run only waits for time, signals or children, so that it may leave memory."""
        return not (self._worker or self.work.tasks or self.mailbox or self.inputs or self._results)

    @property
    def settled(self) -> bool:
        """Whether the run was loaded and its steps have ended; requests to it may still wait for their turn."""
        return self.retired or (self._loaded and not self.work.tasks)

    def deliver(self, job: Job) -> None:
        """Take a request."""
        self.used_at = self.host.clock.monotonic()
        if len(self.mailbox) >= self.host.options.mailbox_limit:
            self.host.refuse(job, OverloadedError(f"{self.stream}: {len(self.mailbox)} requests wait already"))
            return
        self.mailbox.append(job)
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
        sleeps = waiting and self.record.value is not None and not self.host.stopping
        if sleeps and not await self.record.sleep_until(self, self._next_due()):
            return
        self.retired = True
        self.release()
        self._dismiss()

    def _next_due(self) -> float:
        assert self.execution is not None
        dues = [getattr(command, "due", None) for command in self.execution.waiting.values()]
        return min((due for due in dues if due is not None), default=NEVER)

    def release(self) -> None:
        """Let go of the function and of what it has under way."""
        self.work.release(self)
        self.resume()  # a worker that waits for steps has nothing to wait for any more
        if self.execution is not None:
            self.execution.close()

    def _dismiss(self) -> None:
        """Send away everybody who waits here: to the run's next cell, or home when the host stops."""
        jobs = [*self.mailbox, *self._results]
        for timer in self._results.values():
            timer.cancel()
        self.mailbox, self._results = [], {}
        for job in jobs:
            if self.host.stopping and job.delivery is None:
                self.host.refuse(job, NotRunningError("this host is stopping; ask again", stream=self.stream))
            else:
                self.host.redirect(job)

    def feed(self, event: Event) -> None:
        """Take what came of a step, a call or a timer."""
        if not self.retired:
            self.inputs.append(event)
            self.resume()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            if not self._loaded:
                if not self._looks_new():
                    await run_loading.load(self)
                self._loaded = True
            while not self.retired:
                if self.mailbox or self.inputs:
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
                self.release()
                self.host.drop(self)
                self._dismiss()

    def _looks_new(self) -> bool:
        """Whether to begin without asking the journal.
        If the run exists after all, its head refuses the first entry.
        """
        if not self.mailbox:
            return False
        job = self.mailbox[0]
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
            await self.record.stopped(self, error)
        failure = error if isinstance(error, LoomError) else CallError(f"{self.stream}: {error!r}", stream=self.stream)
        jobs, self.mailbox = self.mailbox, []
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
        jobs, self.mailbox = self.mailbox, []
        inputs, self.inputs = self.inputs, []
        waiting: Waiting = []
        try:
            while jobs and not self.retired:
                await self._accept(jobs.pop(0), inputs, waiting)
            if self.retired:
                return
            applied, outputs, asked = self._apply(inputs)
        except Exception:
            self.mailbox[:0] = [job for job, _ in waiting]
            raise
        finally:
            self.mailbox[:0] = jobs
        await self.commit([*applied, *outputs], outputs, asked, waiting)

    async def _accept(self, job: Job, inputs: list[Event], waiting: Waiting) -> None:
        host, kind = self.host, job.message.kind
        if kind in READS and self.run_history.started is None and inputs:
            self.mailbox.append(job)  # it asks about a beginning that is not durable yet
            return
        if not await host.may_start(job):
            return
        try:
            if kind is Kind.RESULT and self.run_history.started is not None:
                self._await_result(job)
            elif kind is Kind.RETRY:
                await run_loading.retry(self, job)
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

    async def commit(self, events: list[Event], outputs: list[Event], asked: list[Command], waiting: Waiting) -> None:
        """Append, then answer, send and carry out. Nothing of the entry has any effect before it is durable."""
        host = self.host
        continued = outputs[-1] if outputs and isinstance(outputs[-1], RunContinued) else None
        if continued is not None:
            now = host.clock.now()
            continued.requests = {r: until for r, until in self.run_history.requests.items() if until > now}
        if events and not await self.append_or_retire(events, waiting):
            return
        crash_point("run.pending")
        if events and isinstance(events[0], RunStarted):
            self.run_history.started = events[0]
            self.run_history.since = self.run_history.since or events[0].at
        outgoing = [e.message for e in outputs if isinstance(e, _MESSAGES)]
        sent = self.send(outgoing) if outgoing else self.sent
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
            await run_loading.go_on(self, continued)

    async def append_or_retire(self, events: list[Event], waiting: Waiting) -> bool:
        """Append; when that fails, let the next cell find out what holds, and send everybody there who waits."""
        host, started = self.host, events[0]
        try:
            if self.head.seq == 0 and isinstance(started, RunStarted):
                recording = self.record.begin(self, started)
                try:
                    await self.append(events)
                finally:
                    if not recording.done():
                        await asyncio.wait([recording])
                if (failure := recording.exception()) is not None:
                    raise OutcomeUnknownError(f"{self.stream} has begun, but its record can't be written: {failure}",
                                              stream=self.stream) from failure  # fmt: skip
                if not recording.result() and self.record.value is not None:
                    await self.record.put(self, self.record.value)
            else:
                await self.append(events)
                self.record.got_through(self)
        except JournalConflictError:
            self.retired = True
            await host.placement.reread()
            if host.placement.has(self.stream, self.shard):
                host.wake_at(host.clock.now(), self.stream)
            for job, _ in waiting:
                host.redirect(job)
            return False
        except TooLargeError:
            self.mailbox[:0] = [job for job, _ in waiting]
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

    def send(self, messages: list[Message]) -> asyncio.Future[None]:
        """Queue what an entry has promised; the future is done when it is queued."""
        self.sent = self.host.outbox.send(messages)
        return self.sent

    def tell(self, message: Message) -> None:
        """Send a message that needs no entry: the request that it answers comes again until it is queued."""
        self.send([message])

    def _finished(self, event: RunFinished) -> None:
        crash_point("run.finished")
        self.run_history.finished = event
        self.release()
        reply = encode(RunOutcome(event.status, event.value, event.error))
        for job, timer in self._results.items():
            timer.cancel()
            self.host.answer(job, Reply(job.message.id, reply))
        self._results.clear()
        if event.outgoing:
            self.send(event.outgoing)
        self.close_record(event)

    def close_record(self, event: RunFinished) -> None:
        """Only when everything that the run had to send is queued, its record stops being work in hand."""
        if self.sent is not None and not self.sent.done():
            self.sent.add_done_callback(lambda _: self.close_record(event))
            return
        self.record.close(self, event).add_done_callback(self._closed)

    def _closed(self, _: asyncio.Future[bool]) -> None:
        if self.idle and not self.retired:
            # The journal holds the outcome; a host that has run a million runs keeps none of them in memory.
            self.host.drop(self)

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
