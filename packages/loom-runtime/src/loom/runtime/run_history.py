"""What a run's journal amounts to: the events that count, after continuations and retries."""

from __future__ import annotations

import msgspec

from ..errors import OutcomeUnknownError
from .entries import (
    ChildStarted,
    Event,
    ParentJoined,
    ResultRecorded,
    RunContinued,
    RunFinished,
    RunRetried,
    RunStarted,
    Sent,
    SignalReceived,
    StepBegan,
    VersionMarked,
)
from .messages import Message

__all__ = ["Recorded", "RunHistory", "is_output", "output_key"]

OUTPUTS = (StepBegan, Sent, ChildStarted, VersionMarked, RunFinished, RunContinued)


def is_output(event: Event) -> bool:
    """Whether the workflow's code made the event, rather than the world."""
    return isinstance(event, OUTPUTS)


def output_key(event: Event) -> str | None:
    """What a replay must make again, or None for what it may make differently."""
    if isinstance(event, Sent):
        return f"sent to {event.message.stream} at position {event.position}"
    if isinstance(event, ChildStarted):
        return f"child {event.message.stream} started at position {event.position}"
    if isinstance(event, StepBegan):
        return f"step {event.name!r} begun at position {event.position}"
    return None


class Recorded(msgspec.Struct):
    """One entry that counts. ``exact`` is False where a retry has opened it, so that its outputs may differ."""

    seq: int
    inputs: list[Event]
    outputs: list[Event]
    exact: bool = True


class RunHistory:
    """Collects a run's entries in order."""

    __slots__ = ("begin_again", "entries", "finished", "promised", "published", "requests", "retries", "since",
                 "started")  # fmt: skip

    def __init__(self) -> None:
        self.entries: list[Recorded] = []
        self.started: RunStarted | None = None
        self.finished: RunFinished | None = None
        self.since = 0.0
        self.requests: dict[str, float] = {}
        self.published: dict[str, bytes] = {}
        self.retries: dict[str, int] = {}
        self.begin_again: list[Event] = []
        self.promised: list[Message] = []

    def add(self, seq: int, events: list[Event]) -> None:
        """Take the next entry."""
        inputs: list[Event] = []
        outputs: list[Event] = []
        for event in events:
            self.remember(event)
            self._promise(event)
            self.begin_again = []
            if isinstance(event, RunStarted):
                self.entries, self.finished = [], None
                self.started = event
                self.since = self.since or event.at
                inputs, outputs = [], []
            elif isinstance(event, RunFinished):
                self.finished = event
            elif isinstance(event, RunContinued):
                self.requests = dict(event.requests)
                self.published = event.published
                self.retries = {}
                cancel = [event.cancel] if event.cancel is not None else []
                self.begin_again = [
                    self._next(event.args, event.at, event.incarnation),
                    *event.parents,
                    *event.signals,
                    *cancel,
                ]
            elif isinstance(event, RunRetried):
                self._retry(event)
                continue
            (outputs if is_output(event) else inputs).append(event)
        if inputs or outputs:
            self.entries.append(Recorded(seq, inputs, outputs))

    def _promise(self, event: Event) -> None:
        """Keep what was to be sent, whatever became of the run after it: a crash may have kept it from the queue."""
        if isinstance(event, Sent | ChildStarted):
            self.promised.append(event.message)
        elif isinstance(event, RunFinished):
            self.promised.extend(event.outgoing)

    def remember(self, event: Event) -> None:
        """Note the request id of an event whose message may come again."""
        request = getattr(event, "request", "")
        if request:
            self.requests[request] = getattr(event, "until", 0.0)

    @property
    def versions(self) -> dict[str, int]:
        """The versions that were marked."""
        return {
            event.change_id: event.version
            for entry in self.entries
            for event in entry.outputs
            if isinstance(event, VersionMarked)
        }

    def _next(self, args: bytes, at: float, incarnation: int) -> RunStarted:
        assert self.started is not None
        # Those who wait for the run are carried along as ParentJoined.
        message = msgspec.structs.replace(self.started.message, args=args, parent="", position="")
        return RunStarted(message, at, incarnation)

    def parents(self) -> list[Event]:
        """Who waits for the run: the run that started it, and those that joined."""
        found: list[Event] = []
        if self.started is not None and self.started.message.parent:
            message = self.started.message
            found.append(ParentJoined(message.parent, message.position, self.started.at, message.id))
        return found + [e for entry in self.entries for e in entry.inputs if isinstance(e, ParentJoined)]

    def _retry(self, event: RunRetried) -> None:
        """Forget the failure, as ``run_retry.decide`` has decided it."""
        assert self.started is not None
        self.finished = None
        if event.mode == "start":
            signals: list[Event] = [e for entry in self.entries for e in entry.inputs if isinstance(e, SignalReceived)]
            begin = self._next(self.started.message.args, event.at, event.incarnation)
            self.begin_again = [begin, *self.parents(), *signals]
            self.published, self.retries = {}, {}
            return
        for index, entry in enumerate(self.entries):
            if event.mode == "drop" and entry.seq == event.seq:
                self._count_retry(entry.inputs.pop(event.place))
            if index == len(self.entries) - 1 or (event.mode == "drop" and entry.seq >= event.seq):
                entry.exact = False
                entry.outputs = [e for e in entry.outputs if isinstance(e, VersionMarked)]

    def _count_retry(self, dropped: Event) -> None:
        """A call that is known to have failed is asked again under a new id: the old one is answered from memory."""
        if not isinstance(dropped, ResultRecorded) or dropped.error is None or dropped.kind == "step":
            return
        if dropped.error.name == OutcomeUnknownError.__name__:
            return
        position = dropped.position.rpartition(":")[2]
        self.retries[position] = self.retries.get(position, 0) + 1
