"""What a run's journal amounts to: the events that count, after continuations and retries."""

from __future__ import annotations

import msgspec

from .entries import (
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
    VersionMarked,
)

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
    """One entry that counts. ``exact`` is False where a retry has cut it, so that its outputs may differ."""

    seq: int
    inputs: list[Event]
    outputs: list[Event]
    exact: bool = True


class RunHistory:
    """Collects a run's entries in order."""

    def __init__(self) -> None:
        self.entries: list[Recorded] = []
        self.started: RunStarted | None = None
        self.finished: RunFinished | None = None
        self.since = 0.0
        self.requests: set[str] = set()
        self.begin_again: list[Event] = []
        self.retried = False

    def add(self, seq: int, events: list[Event]) -> None:
        """Take the next entry."""
        inputs: list[Event] = []
        outputs: list[Event] = []
        for event in events:
            request = getattr(event, "request", "")
            if request:
                self.requests.add(request)
            self.begin_again, self.retried = [], False
            if isinstance(event, RunStarted):
                self.entries, self.finished = [], None
                self.started = event
                self.since = self.since or event.at
            elif isinstance(event, RunFinished):
                self.finished = event
            elif isinstance(event, RunContinued):
                self.begin_again = [self._next(event.args, event.at, event.incarnation), *event.signals]
            elif isinstance(event, RunRetried):
                self._retry(event)
                continue
            (outputs if is_output(event) else inputs).append(event)
        if inputs or outputs:
            self.entries.append(Recorded(seq, inputs, outputs))

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
        message = msgspec.structs.replace(self.started.message, args=args)
        return RunStarted(message, at, incarnation)

    def _retry(self, event: RunRetried) -> None:
        """Forget the failure: the last failed result and what followed, or everything when compensations have run."""
        assert self.started is not None
        self.finished = None
        last: tuple[int, int] | None = None
        compensated = False
        for index, entry in enumerate(self.entries):
            for place, recorded in enumerate(entry.inputs):
                if isinstance(recorded, ResultRecorded):
                    compensated = compensated or recorded.position.startswith("~")
                    if recorded.error is not None:
                        last = (index, place)
        signals: list[Event] = [e for entry in self.entries for e in entry.inputs if isinstance(e, SignalReceived)]
        if last is None or compensated:
            self.begin_again = [self._next(self.started.message.args, event.at, event.incarnation), *signals]
            return
        index, place = last
        cut = self.entries[index]
        later = [e for entry in self.entries[index + 1 :] for e in entry.inputs] + cut.inputs[place + 1 :]
        kept = cut.inputs[:place] + [e for e in later if isinstance(e, SignalReceived)]
        self.entries = [*self.entries[:index], Recorded(cut.seq, kept, [], exact=False)]
        for entry in self.entries:
            entry.outputs = [e for e in entry.outputs if not isinstance(e, RunFinished)]
        self.retried = True
