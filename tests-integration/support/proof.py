"""Proofs from what is stored alone: what the journal says has happened, and that each of it has happened once."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from loom.codec import decode
from loom.runtime.entries import (
    ChildStarted,
    ResultRecorded,
    RunFinished,
    RunStarted,
    Sent,
    SignalReceived,
    TurnBegan,
    TurnCommitted,
    TurnStep,
    decode_entry,
)
from loom.runtime.messages import Kind, Message, decode_message

from .bank import AccountState

__all__ = ["Journal"]


class Journal:
    """What every stream, the mailboxes and the dead letters held at one moment.

    ``queued`` maps what is in the mailboxes to its kind, where the reader could see that.
    """

    def __init__(self, streams: Mapping[str, list[Any]], queued: Mapping[str, Kind | None], dead: list[str]) -> None:
        self.streams = streams
        self.queued = queued
        self.dead = dead

    @classmethod
    def of_file(cls, path: Path) -> Journal:
        """Read a SQLite file by plain SQL and in one transaction; also one whose host is dead."""
        streams: dict[str, list[Any]] = {}
        queued: dict[str, Kind | None] = {}
        dead: list[str] = []
        with closing(sqlite3.connect(path, timeout=30)) as file:
            file.execute("BEGIN")
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
            if "journal_entries" in tables:
                streams = _read_streams(file)
            if "queue_messages" in tables:
                rows = file.execute("SELECT id, body FROM queue_messages WHERE queue LIKE 'loom/shard/%'")
                queued = {id: decode_message(body).kind for id, body in rows}
                dead = [f"{i}: {r}" for i, r in file.execute("SELECT id, reason FROM queue_dead")]
        return cls(streams, queued, dead)

    # -- what happened -------------------------------------------------------------------------------------------

    def turns(self, account: str) -> list[TurnCommitted]:
        """The turns of an account, reminders that fired left out."""
        events = self.streams.get(f"actor/Account/{account}", [])
        return [e for e in events if isinstance(e, TurnCommitted) and e.request]

    def balance(self, account: str) -> int:
        """The committed balance of an account."""
        states = [turn.state for turn in self.turns(account) if turn.state is not None]
        return decode(states[-1], AccountState).balance if states else 0

    def keys(self, account: str) -> set[str]:
        """The idempotency keys of an account's turns."""
        return {_key(turn.request) for turn in self.turns(account)}

    def holds(self, operation: Any) -> bool:
        """Whether a keyed operation is in the journal."""
        if operation.method == "transfer":
            events = self.streams.get(f"run/transfer/{operation.key}", [])
            return any(isinstance(e, RunFinished) and e.status == "completed" for e in events)
        return operation.key in self.keys(operation.account)

    def sent(self) -> Iterator[Message]:
        """Every message that an entry has promised."""
        for events in self.streams.values():
            for event in events:
                if isinstance(event, TurnCommitted | RunFinished):
                    yield from event.outgoing
                elif isinstance(event, Sent | ChildStarted):
                    yield event.message

    def applied(self, message: Message) -> int:
        """How often a message has taken effect where it was sent to."""
        events = self.streams.get(message.stream, [])
        if message.kind is Kind.CHILD:
            # "incarnation:position": no run here continues as new, so the position alone tells.
            position = decode(message.args, ResultRecorded).position.rpartition(":")[2]
            return sum(isinstance(e, ResultRecorded) and e.kind == "child" and e.position == position for e in events)
        return sum(
            (isinstance(e, TurnCommitted) and e.request == message.id)
            or (isinstance(e, RunStarted) and e.message.id == message.id)
            for e in events
        )

    def reminders(self) -> dict[str, set[str]]:
        """Reminders that have not fired, by stream."""
        waiting: dict[str, set[str]] = {}
        for stream, events in self.streams.items():
            names: set[str] = set()
            for event in events:
                if isinstance(event, TurnCommitted):
                    names -= set(event.forgotten)
                    names |= {reminder.name for reminder in event.reminders}
            if names:
                waiting[stream] = names
        return waiting

    def unfinished(self) -> list[str]:
        """What recovery still has to do without being asked: empty when everything promised has come true.

        A run that waits for its signal is not counted: it waits for its client.
        """
        found = [f"{m.stream} has not had {m.id}" for m in self.sent() if not self.applied(m)]
        found += [f"{stream}: {names} have not fired" for stream, names in self.reminders().items()]
        found += [f"{message} is queued" for message in self.queued]
        for stream, events in self.streams.items():
            if isinstance(events[0], RunStarted):
                approved = any(isinstance(e, SignalReceived) for e in events) or "/audit/" in stream
                if approved and not any(isinstance(e, RunFinished) for e in events):
                    found.append(f"{stream} has not finished")
            begun = sum(isinstance(e, TurnBegan) for e in events)
            ids = {e.message.id for e in events if isinstance(e, TurnBegan)}
            ended = sum(isinstance(e, TurnCommitted) and e.request in ids for e in events)
            if begun > ended:
                found.append(f"{stream}: {begun - ended} turns with steps have not ended")
        return found

    # -- that it happened once -----------------------------------------------------------------------------------

    def prove(self) -> None:
        """Nothing is doubled: no request, message, step or result. Nothing was given up."""
        assert not self.dead, self.dead
        for stream, events in self.streams.items():
            self._prove_turns(stream, events)
            self._prove_run(stream, events)
        for message in self.sent():
            assert self.applied(message) <= 1, (
                f"{message.stream} has applied {message.id} {self.applied(message)} times"
            )

    def in_order(self, account: str, besides: Collection[str] = ()) -> None:
        """What each caller asked of the account has run in the order in which it asked; ``besides`` excepted.

        Told by idempotency keys ``CALLER:NUMBER``, where the caller has numbered its calls upwards from 1.
        """
        last: dict[str, int] = {}
        for turn in self.turns(account):
            caller, _, number = _key(turn.request).rpartition(":")
            if caller and caller not in besides:
                before = last.get(caller, 0)
                assert int(number) == before + 1, f"{account}: {caller}:{number} ran after {caller}:{before}"
                last[caller] = int(number)

    def settled(self) -> None:
        """Everything promised has happened, exactly once."""
        assert not self.unfinished()
        self.prove()

    def _prove_turns(self, stream: str, events: list[Any]) -> None:
        requests = Counter(e.request for e in events if isinstance(e, TurnCommitted) and e.request)
        assert all(n == 1 for n in requests.values()), f"{stream}: doubled turns {requests.most_common(3)}"
        steps: Counter[tuple[str, str]] = Counter()
        turn = ""
        for event in events:
            if isinstance(event, TurnBegan):
                turn = event.message.id
            elif isinstance(event, TurnStep):
                steps[turn, event.position] += 1
        assert all(n == 1 for n in steps.values()), f"{stream}: a step is recorded twice: {steps.most_common(3)}"

    def _prove_run(self, stream: str, events: list[Any]) -> None:
        results = Counter(e.position for e in events if isinstance(e, ResultRecorded))
        assert all(n == 1 for n in results.values()), f"{stream}: doubled results {results.most_common(3)}"
        for kind in (RunStarted, RunFinished):
            assert sum(isinstance(e, kind) for e in events) <= 1, f"{stream}: two {kind.__name__}"


def _key(request: str) -> str:
    """The idempotency key in a request id made from one."""
    return request.rpartition("/")[2]


def _read_streams(file: sqlite3.Connection) -> dict[str, list[Any]]:
    streams: dict[str, list[Any]] = {}
    counts: Counter[str] = Counter()
    rows = file.execute(
        "SELECT h.stream, e.seq, e.data FROM journal_heads h JOIN journal_entries e ON e.stream_id = h.id "
        "ORDER BY h.stream, e.seq"
    )
    for stream, seq, data in rows:
        streams.setdefault(stream, []).extend(decode_entry(stream, seq, data))
        counts[stream] += 1
    for stream, seq in file.execute("SELECT stream, seq FROM journal_heads"):
        assert counts[stream] == seq, f"{stream}: the head is at {seq}, there are {counts[stream]} entries"
    return streams
