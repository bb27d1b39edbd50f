"""What an actor's journal amounts to: its state, what it remembers, what it still has to send or finish."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from ..codec import decode, encode, from_builtins
from ..errors import InvalidResultError, JournalGapError, StateDecodeError, StateVersionError
from ..ports import Head, Snapshot
from .crashpoints import crash_point
from .entries import (
    ActorSnapshot,
    Event,
    Remembered,
    Reminder,
    TurnBegan,
    TurnCommitted,
    TurnStep,
    decode_snapshot,
    encode_snapshot,
)
from .messages import Message

if TYPE_CHECKING:
    from .actor_cell import ActorCell

__all__ = ["Committed", "Unfinished", "check_state", "decode_state", "load", "snapshot", "snapshot_when_worth"]


class Unfinished:
    """A turn whose steps are recorded and whose end is not."""

    __slots__ = ("message", "steps")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.steps: dict[str, TurnStep] = {}


class Committed:
    """The committed side of an actor. Every change comes from a journal entry that is durable."""

    __slots__ = ("_remembered", "bytes_since_snapshot", "entries_since_snapshot", "reminders", "sending", "sent",
                 "snapshot_bytes", "state", "unfinished", "unsent", "version")  # fmt: skip

    def __init__(self) -> None:
        self.state: bytes | None = None
        self.version = 0
        self._remembered: dict[str, Remembered] | None = None
        self.reminders: dict[str, Reminder] = {}
        self.unfinished: Unfinished | None = None
        self.unsent: dict[int, list[Message]] = {}
        self.sent = 0
        self.sending: asyncio.Future[None] | None = None
        self.entries_since_snapshot = 0
        self.bytes_since_snapshot = 0
        self.snapshot_bytes = 0

    def restore(self, snapshot: ActorSnapshot, size: int) -> None:
        """Begin from a snapshot."""
        self.state = snapshot.state
        self.version = snapshot.version
        self.reminders = {r.name: r for r in snapshot.reminders}
        self._remembered = {r.request: r for r in snapshot.remembered} or None
        self.snapshot_bytes = size

    def replay(self, seq: int, events: list[Event], now: float) -> None:
        """Apply an entry that was read back."""
        for event in events:
            if isinstance(event, TurnCommitted):
                self.apply(seq, event, now)
            elif isinstance(event, TurnBegan):
                self.begin(seq, event)
            elif isinstance(event, TurnStep):
                self.step(seq, event)

    def apply(self, seq: int, entry: TurnCommitted, now: float) -> None:
        """A turn, or the firing of reminders, is committed at ``seq``."""
        self._count(len(entry.state or b"") + len(entry.result or b"") + 64)
        if entry.state is not None:
            self.state = entry.state
            self.version = entry.version
        if entry.request and entry.remember_until:
            if self._remembered is None:
                self._remembered = {}
            self._remembered[entry.request] = Remembered(
                entry.request, entry.remember_until, entry.fingerprint, entry.result, entry.error
            )
        for name in entry.forgotten:
            self.reminders.pop(name, None)
        for reminder in entry.reminders:
            self.reminders[reminder.name] = reminder
        if entry.outgoing:
            self.unsent[seq] = entry.outgoing
        self.sent = max(self.sent, entry.sent)
        if self.unfinished is not None and entry.request == self.unfinished.message.id:
            self.unfinished = None

    def begin(self, seq: int, event: TurnBegan) -> None:
        """A turn with steps began."""
        self._count(len(event.message.args) + 64)
        self.unfinished = Unfinished(event.message)

    def step(self, seq: int, event: TurnStep) -> None:
        """A step of it is recorded."""
        self._count(len(event.value or b"") + 64)
        if self.unfinished is not None:
            self.unfinished.steps[event.position] = event

    def recall(self, request: str) -> Remembered | None:
        """The answer given to a request id, if it is remembered."""
        return None if self._remembered is None else self._remembered.get(request)

    def remember(self, event: TurnCommitted, until: float) -> None:
        """Remember an id that can't come again by itself, but whose caller may not have heard the outcome."""
        if self._remembered is None:
            self._remembered = {}
        self._remembered.setdefault(
            event.request, Remembered(event.request, until, event.fingerprint, event.result, event.error)
        )

    def prune(self, now: float) -> list[Remembered]:
        """Forget ids whose messages have expired; what remains."""
        if self._remembered is not None:
            self._remembered = {k: r for k, r in self._remembered.items() if r.until > now} or None
        return list((self._remembered or {}).values())

    def _count(self, size: int) -> None:
        self.entries_since_snapshot += 1
        self.bytes_since_snapshot += size


async def load(cell: ActorCell) -> Committed:
    """Read the actor from its journal. Raises JournalGapError, CorruptEntryError, StateDecodeError,
    StateVersionError.
    """
    for attempt in (1, 2):
        try:
            return await _load(cell)
        except JournalGapError:
            # Another host may have trimmed between our two reads: the snapshot it trimmed to is there now.
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


async def _load(cell: ActorCell) -> Committed:
    host, committed = cell.host, Committed()
    head = await host.journal.head(cell.stream)
    if head.seq:
        snapshot = await host.journal.read_snapshot(cell.stream) if head.snapshot_seq else None
        if snapshot is not None:
            committed.restore(
                decode_snapshot(cell.stream, snapshot.seq, snapshot.data, host.codecs), len(snapshot.data)
            )
            committed.sent = snapshot.seq
        now = host.clock.now()
        async for seq, events in cell.history(snapshot, head):
            committed.replay(seq, events, now)
            for event in events:
                if isinstance(event, TurnCommitted) and event.request and not event.remember_until:
                    committed.remember(event, now + host.options.call_timeout)
        committed.unsent = {seq: messages for seq, messages in committed.unsent.items() if seq > committed.sent}
        if committed.state is not None:
            committed.state = current_state(cell, committed.state, committed.version)
        if committed.unsent or committed.unfinished or committed.reminders:
            record = await host.pending.get(cell.shard, cell.stream)
            cell.pending_due = None if record is None else record.due
    cell.head = Head(head.seq, head.entry_id, head.fence, head.snapshot_seq)
    return committed


def current_state(cell: ActorCell, data: bytes, version: int) -> bytes:
    """The stored state as today's class stores it."""
    kind = cell.kind
    if version == kind.state_version:
        check = decode_state(cell, data)
        del check
        return data
    if version > kind.state_version:
        raise StateVersionError(
            f"{cell.stream}: its state was written by version {version} of {kind.name}, this host has "
            f"{kind.state_version}; deploy the newer code here. Nothing was overwritten",
            stream=cell.stream,
            version=version,
        )
    upgraded = kind.cls.__new__(kind.cls).upgrade(decode(data), version)
    try:
        if kind.state_type not in (Any, object) and not isinstance(upgraded, kind.state_type):
            upgraded = from_builtins(upgraded, kind.state_type)
    except msgspec.ValidationError as error:
        raise StateDecodeError(f"{cell.stream}: upgrade from version {version} gave a wrong state: {error}") from error
    return encode(upgraded)


def decode_state(cell: ActorCell, data: bytes) -> Any:
    """A fresh copy of a stored state. Raises StateDecodeError naming the field."""
    try:
        return cell.kind.decode_state(data)
    except msgspec.MsgspecError as error:
        raise StateDecodeError(
            f"{cell.stream}: the stored state does not fit {cell.kind.state_type.__name__}: {error}. Nothing was "
            "overwritten; raise state_version and define upgrade(old, version), or deploy the code that wrote it",
            stream=cell.stream,
            seq=cell.head.seq,
        ) from error


def check_state(cell: ActorCell, data: bytes) -> None:
    """Refuse to commit what could not be read back."""
    try:
        cell.kind.decode_state(data)
    except msgspec.MsgspecError as error:
        raise InvalidResultError(
            f"{cell.stream}: the handler left a state that does not fit {cell.kind.state_type.__name__}: {error}; "
            "nothing was committed",
            stream=cell.stream,
        ) from error


async def snapshot_when_worth(cell: ActorCell) -> None:
    """Snapshot once as much was appended as a snapshot takes to write, so that its cost stays in proportion."""
    committed = cell.committed
    assert committed is not None
    if committed.bytes_since_snapshot >= committed.snapshot_bytes:
        try:
            await snapshot(cell)
        except Exception as error:
            # A snapshot only saves time; the entries hold everything.
            cell.host.log.warning("%s: the snapshot at %d failed: %s", cell.stream, cell.head.seq, error)


async def snapshot(cell: ActorCell) -> None:
    """Write a snapshot at the head and trim what retention allows.
    Does nothing inside a turn or with unsent messages.
    """
    committed, host, seq = cell.committed, cell.host, cell.head.seq
    if committed is None or committed.unfinished is not None or committed.unsent or committed.state is None or not seq:
        return
    now = host.clock.now()
    data = encode_snapshot(
        ActorSnapshot(
            committed.state, cell.kind.state_version, now, committed.prune(now), list(committed.reminders.values())
        ),
        host.codecs,
    )
    await host.journal.write_snapshot(cell.stream, Snapshot(seq, data))
    crash_point("snapshot.written")
    committed.entries_since_snapshot = 0
    committed.bytes_since_snapshot = 0
    committed.snapshot_bytes = len(data)
    cell.head = Head(cell.head.seq, cell.head.entry_id, cell.head.fence, seq)
    if seq > host.options.retain_entries:
        await host.journal.trim(cell.stream, seq - host.options.retain_entries)
