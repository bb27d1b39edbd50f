"""A workflow run in memory: its execution, what it waits for, and its journal."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from ..codec import decode, encode, error_from, error_info
from ..errors import (
    CallError,
    InvalidArgumentsError,
    JournalConflictError,
    LoomError,
    MessageExpiredError,
    NonDeterminismError,
    NotRunningError,
    OutcomeUnknownError,
    OverloadedError,
    PortError,
    RunNotFoundError,
    StoreUnavailableError,
    WorkflowFailedError,
)
from ..ports import Head, Snapshot
from ..workflow import Workflow
from .cell import Cell
from .commands import Call, ChildResult, Command, Sleep, Step, WaitSignal
from .crashpoints import crash_point
from .entries import (
    CancelRequested,
    ChildStarted,
    Event,
    ResultRecorded,
    RunContinued,
    RunFinished,
    RunRetried,
    RunStarted,
    Sent,
    SignalReceived,
    StepBegan,
    decode_entry,
    encode_entry,
)
from .execution import Execution, decode_child
from .job import Job
from .messages import Kind, Message, Reply
from .pending import PendingRecord, run_record
from .run_history import RunHistory, output_key
from .run_status import RunOutcome, RunStatus

if TYPE_CHECKING:
    from .host import Host

__all__ = ["RunCell"]

NEVER = 4_102_444_800.0
"""The due time of a run that only a signal can wake: far away, so that its record still counts as work in hand."""
_RETRYABLE = (OutcomeUnknownError, StoreUnavailableError, OverloadedError, NotRunningError)
_LONGEST_PAUSE = 10.0


class RunCell(Cell):
    """One run. Events come in from requests, steps, calls and timers; those of one moment share an entry."""

    __slots__ = ("_began", "_execution", "_history", "_inputs", "_loaded", "_mailbox", "_record", "_results", "_stopped", "_tasks",
                 "_timers", "_worker", "run_id", "workflow")  # fmt: skip

    def __init__(self, host: Host, stream: str, workflow: Workflow[Any, Any], run_id: str) -> None:
        super().__init__(host, stream)
        self.workflow = workflow
        self.run_id = run_id
        self._loaded = False
        self._history = RunHistory()
        self._execution: Execution | None = None
        self._stopped: LoomError | None = None
        self._mailbox: list[Job] = []
        self._inputs: list[Event] = []
        self._results: list[Job] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, int] = {}
        self._began: set[str] = set()
        self._record: PendingRecord | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a step or call is under way, or an entry on its way."""
        return bool(self._worker or self._tasks)

    @property
    def idle(self) -> bool:
        """Whether the run only waits for time, signals or children, so that it may leave memory."""
        return not (self._worker or self._tasks or self._mailbox or self._inputs or self._results)

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
        if self._worker is None and not self.retired:
            self._worker = self.spawn(self._work(), "loom run")

    async def deactivate(self) -> None:
        """Leave memory; while a run waits, its pending record says when it must be back."""
        self.retired = True
        waiting = self._execution is not None and self._execution.finished is None and self._stopped is None
        if waiting and not self._tasks and self._record is not None and not self.host.stopping:
            due = self._next_due()
            self._record.due = due
            await self.host.pending.put(self.shard, self._record)
            if due < NEVER:
                self.host.wake_at(due, self.stream)
        self._release()

    def _next_due(self) -> float:
        assert self._execution is not None
        dues = [getattr(command, "due", None) for command in self._execution.waiting.values()]
        return min((due for due in dues if due is not None), default=NEVER)

    def _release(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for number in self._timers.values():
            self.host.timers.cancel(number)
        self._tasks.clear()
        self._timers.clear()

    def _feed(self, event: Event) -> None:
        if not self.retired:
            self._inputs.append(event)
            self.resume()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        host = self.host
        try:
            if not self._loaded:
                await self._load()
            while (self._mailbox or self._inputs) and not self.retired:
                await self._round()
        except Exception as error:
            host.log.error("%s: %s", self.stream, error)
            self._stop_with(error if isinstance(error, LoomError) else CallError(f"{self.stream}: {error!r}"))
            for job in self._mailbox:
                host.fail(job, error)
            self._mailbox.clear()
        finally:
            self._worker = None
            if self.retired:
                self._release()
                host.drop(self)
                for job in [*self._mailbox, *self._results]:
                    host.redirect(job)
                self._mailbox, self._results = [], []

    def _stop_with(self, error: LoomError) -> None:
        """The run can't go on here; its journal is untouched, and it is tried anew when asked again."""
        self._stopped = error
        self.retired = True
        for job in self._results:
            self.host.fail(job, error)
        self._results = []

    async def _round(self) -> None:
        jobs, self._mailbox = self._mailbox, []
        inputs, self._inputs = self._inputs, []
        waiting: list[tuple[Job, bytes]] = []
        for job in jobs:
            if not await self.host.may_start(job):
                continue
            try:
                taken = self._take(job, inputs)
            except Exception as error:
                self.host.fail(job, error)
            else:
                if taken is not None:
                    waiting.append((job, taken))
            finally:
                self.host.turn_ended(job)
        if not inputs:
            for job, reply in waiting:
                self.host.answer(job, Reply(job.message.id, reply))
            return
        if isinstance(inputs[0], RunRetried):
            await self._commit(inputs, [], [], waiting)
            self.retired = True
            self.host.wake_at(0.0, self.stream)
            return
        first = isinstance(inputs[0], RunStarted) and self.head.seq == 0
        execution = self._execution
        if isinstance(inputs[0], RunStarted):
            execution = self._execution = self._new_execution(inputs[0].incarnation, {})
        if execution is None or execution.finished is not None:
            inputs = []
        assert execution is not None
        for event in inputs:
            try:
                execution.apply(event)
            except InvalidArgumentsError as error:
                if first:
                    self._execution, self.retired = None, True
                    for job, _ in waiting:
                        self.host.fail(job, error)
                    return
                raise
        outputs, asked = execution.take()
        await self._commit([*inputs, *outputs], outputs, asked, waiting, first=first)

    async def _commit(
        self, events: list[Event], outputs: list[Event], asked: list[Command], waiting: list[tuple[Job, bytes]], *,
        first: bool = False,
    ) -> None:  # fmt: skip
        """Append, then answer, send and carry out. Nothing of the entry has any effect before it is durable."""
        host = self.host
        try:
            if first:
                started = events[0]
                assert isinstance(started, RunStarted)
                self._record = run_record(self.stream, due=started.at, status="running", since=started.at)
                recorded, appended = await asyncio.gather(
                    host.pending.put(self.shard, self._record), self.append(events), return_exceptions=True
                )
                for outcome in (appended, recorded):
                    if isinstance(outcome, BaseException):
                        raise outcome
            elif events:
                await self.append(events)
        except JournalConflictError:
            self.retired = True
            await host.placement.reread()
            for job, _ in waiting:
                host.redirect(job)
            return
        except (OutcomeUnknownError, PortError) as error:
            self.retired = True
            host.wake_at(host.clock.now() + 1.0, self.stream)
            for job, _ in waiting:
                if isinstance(error, OutcomeUnknownError):
                    host.unknown(job, error)
                else:
                    host.fail(job, error)
            return
        crash_point("run.pending")
        if self._history.started is None and isinstance(events[0], RunStarted):
            self._history.started = events[0]
            self._history.since = events[0].at
        self._history.requests.update(r for e in events if (r := getattr(e, "request", "")))
        outgoing = [e.message for e in outputs if isinstance(e, Sent | ChildStarted)]
        sent = host.outbox.send(outgoing) if outgoing else None
        for job, reply in waiting:
            host.answer(job, Reply(job.message.id, reply), sent)
        for command in asked:
            self._launch(command)
        for position in [p for p in self._timers if self._execution is None or p not in self._execution.waiting]:
            host.timers.cancel(self._timers.pop(position))
        for event in outputs:
            if isinstance(event, RunFinished):
                await self._finished(event)
            elif isinstance(event, RunContinued):
                await self._continued(event)

    async def _finished(self, event: RunFinished) -> None:
        host = self.host
        crash_point("run.finished")
        self._history.finished = event
        self._release()
        outcome = encode(RunOutcome(event.status, event.value, event.error))
        for job in self._results:
            host.answer(job, Reply(job.message.id, outcome))
        self._results = []
        if event.outgoing:
            await host.outbox.send(event.outgoing)
        host.background.spawn(self._close_record(event), "loom run record")

    async def _close_record(self, event: RunFinished) -> None:
        """Only when everything that the run had to send is queued, its record stops being work in hand."""
        await self.host.outbox.drain()
        error = None if event.error is None else event.error.message
        record = run_record(
            self.stream, due=None, status=event.status, since=self._history.since, ended=event.at, error=error
        )
        self._record = record
        with contextlib.suppress(PortError):
            await self.host.pending.put(self.shard, record)

    async def _continued(self, event: RunContinued) -> None:
        self._release()
        self._began.clear()
        assert self._history.started is not None
        message = msgspec.structs.replace(self._history.started.message, args=event.args)
        begin: list[Event] = [RunStarted(message, event.at, event.incarnation), *event.signals]
        seq = self.head.seq
        await self.host.journal.write_snapshot(self.stream, Snapshot(seq, encode_entry(begin, self.host.codecs)))
        self.head = Head(seq, self.head.entry_id, self.head.fence, seq)
        if seq > self.host.options.retain_entries:
            await self.host.journal.trim(self.stream, seq - self.host.options.retain_entries)
        self._inputs = [*begin, *self._inputs]

    # -- requests ------------------------------------------------------------------------------------------------

    def _take(self, job: Job, inputs: list[Event]) -> bytes | None:
        """Turn a request into an event; the answer once that is durable, or None when it is answered already or later."""
        message, host = job.message, self.host
        now = host.clock.now()
        started = any(isinstance(event, RunStarted) for event in inputs) or self._history.started is not None
        if message.kind is Kind.START:
            if not started:
                self._check_life(message, now)
                self.workflow.signature.decode(message.args)
                inputs.insert(0, RunStarted(message, max(now, 0.0)))
                return encode(True)
            return encode(False)
        if not started:
            raise RunNotFoundError(
                f"no run {self.run_id!r} of {self.workflow.name}; start it, or list runs with 'loom runs list'",
                workflow=self.workflow.name,
                run_id=self.run_id,
            )
        if message.kind is Kind.RESULT:
            self._await_result(job)
            return None
        if message.kind is Kind.STATUS:
            return encode(self._status())
        if message.kind is Kind.GET:
            return self._published(message.method)
        if message.id in self._history.requests:
            return encode(True)
        self._check_life(message, now)
        if message.kind is Kind.RETRY:
            return self._retry(message, inputs, now)
        finished = self._history.finished
        if finished is not None:
            if message.kind in (Kind.CANCEL, Kind.CHILD):
                return encode(False)
            raise CallError(
                f"{self.stream} is {finished.status}; it takes no more signals", stream=self.stream, status=finished.status
            )
        if message.kind is Kind.SIGNAL:
            self._check_signal(message)
            inputs.append(SignalReceived(message.method, message.args, now, message.id))
        elif message.kind is Kind.CANCEL:
            inputs.append(CancelRequested(str(decode(message.args) or ""), now, message.id))
        elif message.kind is Kind.CHILD:
            outcome = decode_child(message.args)
            outcome.at = max(outcome.at, now)
            inputs.append(outcome)
            self._history.requests.add(message.id)
        return encode(True)

    def _check_life(self, message: Message, now: float) -> None:
        if message.expires_at and now >= message.expires_at:
            raise MessageExpiredError(f"{self.stream}: the request expired and was not run", request_id=message.id)

    def _check_signal(self, message: Message) -> None:
        """A waiting workflow says which type it wants; a sender hears at once when the value does not fit."""
        if self._execution is None:
            return
        for command in self._execution.waiting.values():
            if isinstance(command, WaitSignal) and command.name == message.method:
                try:
                    command.decode(message.args)
                except msgspec.MsgspecError as error:
                    raise InvalidArgumentsError(
                        f"{self.stream}: signal {message.method!r} does not fit what the workflow waits for: {error}",
                        stream=self.stream,
                    ) from error
                return

    def _retry(self, message: Message, inputs: list[Event], now: float) -> bytes:
        finished = self._history.finished
        if finished is None or finished.status == "completed":
            status = "running" if finished is None else finished.status
            raise CallError(f"{self.stream} is {status}; only failed and cancelled runs can be retried", stream=self.stream)
        assert self._history.started is not None
        inputs.clear()
        inputs.append(RunRetried(now, message.id, self._history.started.incarnation + 1))
        return encode(True)

    def _await_result(self, job: Job) -> None:
        finished = self._history.finished
        if finished is not None:
            outcome = RunOutcome(finished.status, finished.value, finished.error)
            self.host.answer(job, Reply(job.message.id, encode(outcome)))
            return
        self._results.append(job)
        wait = max(0.0, job.message.deadline - self.host.clock.now())
        asyncio.get_running_loop().call_later(wait, self._still_running, job)

    def _still_running(self, job: Job) -> None:
        if job in self._results:
            self._results.remove(job)
            self.host.answer(job, Reply(job.message.id, encode(RunOutcome("running"))))

    def _status(self) -> RunStatus:
        history, execution = self._history, self._execution
        finished = history.finished
        assert history.started is not None
        status = finished.status if finished is not None else ("stopped" if self._stopped else "running")
        error = None
        if finished is not None and finished.error is not None:
            error = f"{finished.error.type_name}: {finished.error.message}"
        return RunStatus(
            workflow=self.workflow.name, run_id=self.run_id, status=status, started_at=history.since,
            finished_at=None if finished is None else finished.at, steps_done=execution.steps_done if execution else 0,
            waiting_for=[] if execution is None or finished else [_describe(c) for c in execution.waiting.values()],
            incarnation=history.started.incarnation, error=error,
            cancel_requested=execution is not None and execution.cancel_reason is not None,
        )  # fmt: skip

    def _published(self, name: str) -> bytes:
        finished, execution = self._history.finished, self._execution
        published = finished.published if finished is not None else execution.published if execution else {}
        if name not in published:
            raise LookupError(f"{self.stream} has published no {name!r}; it has: {', '.join(sorted(published)) or 'nothing'}")
        return published[name]

    # -- carrying out --------------------------------------------------------------------------------------------

    def _launch(self, command: Command) -> None:
        position = command.position
        if isinstance(command, Step):
            self._tasks[position] = self.spawn(self._step(command), "loom step")
        elif isinstance(command, Call):
            self._tasks[position] = self.spawn(self._call(command), "loom call")
        elif isinstance(command, Sleep):
            self._timers[position] = self.host.timers.at(command.due, lambda: self._timed_out(command, "sleep"))
        elif isinstance(command, WaitSignal) and command.due is not None:
            self._timers[position] = self.host.timers.at(command.due, lambda: self._timed_out(command, "timeout"))

    def _timed_out(self, command: Command, kind: str) -> None:
        self._timers.pop(command.position, None)
        if self._execution is not None and self._execution.waiting.get(command.position) is command:
            self._feed(ResultRecorded(command.position, kind, command.name, self.host.clock.now()))

    async def _step(self, command: Step) -> None:
        assert self._execution is not None
        outcome = await self.host.steps.run(
            self.stream, command.position, command.name, command.function, command.args, command.kwargs,
            command.retries, command.timeout, incarnation=self._execution.incarnation,
        )  # fmt: skip
        self._tasks.pop(command.position, None)
        unknown = outcome.unknown or (outcome.error is not None and command.position in self._began)
        self._feed(
            ResultRecorded(command.position, "step", command.name, self.host.clock.now(), outcome.value, outcome.error, unknown)
        )

    async def _call(self, command: Call) -> None:
        host, pause = self.host, 0.05
        while True:
            value, error = None, None
            try:
                reply = await host.router.call(msgspec.structs.replace(command.message), timeout=host.options.call_timeout + 5)
                value, error = reply.result, reply.error
                again = error is not None and isinstance(error_from(error), _RETRYABLE)
            except _RETRYABLE:
                again = True
            if not again:
                break
            if host.clock.now() >= command.message.expires_at:
                error = error_info(OutcomeUnknownError(
                    f"{command.name} gave no outcome within its life of {host.options.message_life:g} s",
                    request_id=command.message.id,
                ))  # fmt: skip
                break
            await host.clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._tasks.pop(command.position, None)
        self._feed(ResultRecorded(command.position, "call", command.name, host.clock.now(), value, error))

    # -- loading -------------------------------------------------------------------------------------------------

    def _new_execution(self, incarnation: int, versions: dict[str, int]) -> Execution:
        host = self.host
        return Execution(self.stream, self.run_id, self.workflow, host.steps, host.resources, host.options.message_life,
                         incarnation, versions)  # fmt: skip

    async def _load(self) -> None:
        host, history = self.host, self._history
        self.head = head = await host.journal.head(self.stream)
        if head.seq == 0:
            self._loaded = True
            return
        snapshot = await host.journal.read_snapshot(self.stream) if head.snapshot_seq else None
        if snapshot is not None:
            begin = decode_entry(self.stream, snapshot.seq, snapshot.data, host.codecs)
            history.add(snapshot.seq, begin)
            history.begin_again, history.entries = begin, []
        async for seq, events in self.history(snapshot, head):
            history.add(seq, events)
        self._record = await host.pending.get(self.shard, self.stream) or run_record(
            self.stream, due=None, status="running", since=history.since
        )
        history.since = self._record.since or history.since
        if history.finished is not None:
            if self._record.due is not None or self._record.status == "running":
                if history.finished.outgoing:
                    await host.outbox.send(history.finished.outgoing)
                await self._close_record(history.finished)
        else:
            await self._replay()
        self._loaded = True

    async def _replay(self) -> None:
        host, history, record = self.host, self._history, self._record
        assert record is not None
        now = host.clock.now()
        if record.due is None or record.due > now or record.status != "running":
            record.due, record.status, record.ended, record.error = now, "running", None, None
            await host.pending.put(self.shard, record)
        if history.begin_again:
            self._inputs = [*history.begin_again, *self._inputs]
            return
        assert history.started is not None
        execution = self._execution = self._new_execution(history.started.incarnation, history.versions)
        execution.replaying = True
        left: list[Event] = []
        for entry in history.entries:
            for event in entry.inputs:
                execution.apply(event)
            made, _ = execution.take()
            left = self._compare(entry.seq, entry.outputs, made) if entry.exact else made
            self._began.update(event.position for event in entry.outputs if isinstance(event, StepBegan))
        execution.replaying = False
        # Messages that a crash kept from the queue; those that were queued are recognised by their ids.
        messages = [e.message for entry in history.entries for e in entry.outputs if isinstance(e, Sent | ChildStarted)]
        if messages:
            await host.outbox.send(messages)
        asked = list(execution.waiting.values())
        if left or history.retried:
            await self._commit(left, left, asked, [])
        else:
            for command in asked:
                self._launch(command)
        if record.resumed:
            record.resumed = 0
            await host.pending.put(self.shard, record)

    def _compare(self, seq: int, recorded: list[Event], made: list[Event]) -> list[Event]:
        """Raise unless a replayed entry made what is recorded; what remains is an end that the code now reaches."""
        before = {key for event in recorded if (key := output_key(event))}
        now = {key for event in made if (key := output_key(event))}
        for key in sorted(before ^ now):
            recorded_text, asked_text = (key, "nothing of the kind") if key in before else ("nothing of the kind", key)
            raise NonDeterminismError(
                f"{self.stream}: the entry at seq {seq} has {recorded_text}, the code made {asked_text}. The run is "
                "stopped, its journal is untouched; deploy the code that wrote it, or guard the change with ctx.version",
                stream=self.stream,
                seq=seq,
                recorded=recorded_text,
                asked=asked_text,
            )
        if any(isinstance(event, RunFinished | RunContinued) for event in recorded):
            return []
        return [event for event in made if isinstance(event, RunFinished | RunContinued)]


def _describe(command: Command) -> str:
    if isinstance(command, WaitSignal):
        return f"signal {command.name!r}"
    if isinstance(command, Sleep):
        return f"sleep until {command.due:.3f}"
    if isinstance(command, ChildResult):
        return f"child {command.name}"
    return f"{command.kind} {command.name}"


def outcome_error(stream: str, outcome: RunOutcome) -> Exception:
    """The exception that ``result()`` raises for a failed run."""
    if outcome.error is None:
        return WorkflowFailedError(f"{stream} {outcome.status}", stream=stream)
    return error_from(outcome.error)
