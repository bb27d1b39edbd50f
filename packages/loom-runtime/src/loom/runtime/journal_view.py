"""A stream for people: its entries decoded, event by event, whatever state it is in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from ..codec import ErrorInfo, PayloadCodec, decode
from ..errors import CorruptEntryError, JournalGapError
from ..ports import JournalEntry, JournalStore
from .entries import Event, RunContinued, RunStarted, decode_entry, decode_snapshot
from .messages import Message

__all__ = [
    "EntryView", "EventView", "SnapshotView", "first_kept", "read_entries", "readable", "view_entry", "view_event",
    "view_snapshot",
]  # fmt: skip


class EventView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event. ``what`` is its name; payloads are decoded to builtin types, errors shortened to one line."""

    what: str
    at: float | None = None
    request: str = ""
    name: str = ""
    position: str = ""
    value: Any = msgspec.UNSET
    state: Any = msgspec.UNSET
    error: str = ""
    detail: dict[str, Any] = {}


class EntryView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry. ``corrupt`` says why it can't be read; ``raw`` is what is stored, in hexadecimal."""

    seq: int
    entry_id: str = ""
    fence: int = 0
    size: int = 0
    events: list[EventView] = []
    corrupt: str = ""
    raw: str = ""


class SnapshotView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The snapshot; ``corrupt`` says why it can't be read."""

    seq: int
    at: float | None = None
    state: Any = msgspec.UNSET
    version: int = 0
    remembered: int = 0
    reminders: list[str] = []
    corrupt: str = ""


async def read_entries(
    journal: JournalStore, stream: str, after: int = 0, limit: int = 1000
) -> AsyncIterator[JournalEntry | CorruptEntryError]:
    """Entries above ``after``, up to ``limit``; one that the store can't give is its error, and the rest goes on.

    Raises JournalGapError when the first one has been trimmed; see ``first_kept``.
    """
    while limit > 0:
        try:
            entries = await journal.read(stream, after, min(limit, 500))
        except CorruptEntryError as error:
            seq = error.context.get("seq")
            if not isinstance(seq, int) or seq <= after:
                raise
            if seq > after + 1:
                async for entry in read_entries(journal, stream, after, min(limit, seq - after - 1)):
                    yield entry
            if limit < seq - after:
                return
            yield error
            limit, after = limit - (seq - after), seq
            continue
        if not entries:
            return
        for entry in entries:
            yield entry
        limit, after = limit - len(entries), entries[-1].seq


async def first_kept(journal: JournalStore, stream: str, after: int, head: int) -> int:
    """The lowest position from ``after`` on to read after without meeting a gap, found by halving."""
    low, high = after, head
    while low < high:
        middle = (low + high) // 2
        try:
            await journal.read(stream, middle, 1)
        except JournalGapError:
            low = middle + 1
        except CorruptEntryError:
            high = middle
        else:
            high = middle
    return low


def view_entry(stream: str, entry: JournalEntry, codecs: tuple[PayloadCodec, ...] = ()) -> EntryView:
    """The entry decoded; never raises."""
    common: dict[str, Any] = {
        "seq": entry.seq, "entry_id": entry.entry_id, "fence": entry.fence, "size": len(entry.data),
    }  # fmt: skip
    try:
        events = decode_entry(stream, entry.seq, entry.data, codecs)
    except CorruptEntryError as error:
        return EntryView(**common, corrupt=str(error.__cause__ or error))
    return EntryView(**common, events=[view_event(event) for event in events])


def view_snapshot(stream: str, seq: int, data: bytes, codecs: tuple[PayloadCodec, ...] = ()) -> SnapshotView:
    """The snapshot decoded; never raises."""
    try:
        snapshot = decode_snapshot(stream, seq, data, codecs)
    except CorruptEntryError as error:
        return SnapshotView(seq=seq, corrupt=str(error.__cause__ or error))
    return SnapshotView(
        seq=seq, at=snapshot.at, state=readable(snapshot.state), version=snapshot.version,
        remembered=len(snapshot.remembered), reminders=[reminder.name for reminder in snapshot.reminders],
    )  # fmt: skip


def view_event(event: Event) -> EventView:
    """The event for people. What has no field of its own in the view is in ``detail``."""
    fields: dict[str, Any] = {name: getattr(event, name) for name in event.__struct_fields__}
    tag = event.__struct_config__.tag
    known: dict[str, Any] = {"what": str(tag), "at": fields.pop("at", None), "position": fields.pop("position", "")}
    message: Message | None = fields.pop("message", None)
    known["request"] = fields.pop("request", "") or (message.id if message is not None else "")
    known["name"] = fields.pop("name", "") or fields.pop("method", "") or fields.pop("change_id", "")
    if message is not None:
        known["name"] = known["name"] or message.method or message.stream
        fields["args"] = message.args
        if not isinstance(event, RunStarted | RunContinued):
            fields["to"] = message.stream
    for source, target in (("value", "value"), ("result", "value"), ("args", "value"), ("state", "state")):
        data = fields.get(source)
        if isinstance(data, bytes):
            known[target] = readable(fields.pop(source))
    error: ErrorInfo | None = fields.pop("error", None)
    if error is not None:
        known["error"] = f"{error.type_name}: {error.message}"
    known["detail"] = {name: _detail(value) for name, value in fields.items() if value}
    return EventView(**known)


def readable(data: bytes | None) -> Any:
    """The value in ``data`` as builtin types, or a text that says why there is none."""
    try:
        return decode(data) if data is not None else None
    except Exception as error:
        return f"<{len(data or b'')} bytes that can't be decoded: {error}>"


def _detail(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_detail(item) for item in value]
    if isinstance(value, dict):
        return {key: readable(item) if isinstance(item, bytes) else item for key, item in value.items()}
    if isinstance(value, Message):
        return {"id": value.id, "to": value.stream, "method": value.method, "args": readable(value.args)}
    if isinstance(value, msgspec.Struct):
        return {name: _detail_field(getattr(value, name)) for name in value.__struct_fields__}
    return value


def _detail_field(value: Any) -> Any:
    return readable(value) if isinstance(value, bytes) else value
