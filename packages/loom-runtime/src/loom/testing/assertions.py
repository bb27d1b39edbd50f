"""Assertions that show the journal when they fail: what happened is in the report, not in a debugger."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from ..app import Loom
from ..client import RunHandle
from ..errors import CorruptEntryError, LoomError
from ..runtime.journal_view import EventView, first_kept, read_entries, view_entry, view_snapshot
from .journals import open_journal, stream_of

__all__ = ["assert_run", "journal_on_failure", "journal_text"]

_WIDTH = 160
_ENTRIES = 200


async def journal_text(app: Loom, target: Any) -> str:
    """The last 200 entries of a journal as text, one line an event, seconds counted from the first event shown.

    ``target`` is a run handle, an actor reference, or ``"WORKFLOW/RUN_ID"``. Never fails: what can't be read says so.
    """
    stream = stream_of(target)
    lines = [f"journal of {stream}:"]
    async with open_journal(app) as journal:
        head = await journal.head(stream)
        snapshot = await journal.read_snapshot(stream)
        start = max(await first_kept(journal, stream, 0, head.seq), head.seq - _ENTRIES)
        if snapshot is not None:
            view = view_snapshot(stream, snapshot.seq, snapshot.data, app.payload_codecs)
            state = "" if view.state is msgspec.UNSET else f" state {_short(view.state)}"
            lines.append(f"{snapshot.seq:>6}  snapshot{state}")
        if start:
            lines.append(f"        … entries 1 to {start} are not shown")
        began: float | None = None
        async for entry in read_entries(journal, stream, start, _ENTRIES):
            if isinstance(entry, CorruptEntryError):
                lines.append(f"{entry.context['seq']:>6}  can't be read: {entry}")
                continue
            found = view_entry(stream, entry, app.payload_codecs)
            if found.corrupt:
                lines.append(f"{entry.seq:>6}  can't be read: {found.corrupt}")
            for event in found.events:
                began = event.at if began is None else began
                lines.append(f"{entry.seq:>6}  {_line(event, began or 0.0)}")
    if head.seq == 0:
        lines.append("        empty: nothing by this name ever began")
    return "\n".join(lines)


@asynccontextmanager
async def journal_on_failure(app: Loom, *targets: Any) -> AsyncIterator[None]:
    """Add the journals of ``targets`` to whatever exception leaves the context; pytest prints them with it."""
    try:
        yield
    except Exception as error:
        for target in targets:
            try:
                error.add_note(await journal_text(app, target))
            except LoomError as failure:
                error.add_note(f"the journal of {target!r} can't be shown: {failure}")
        raise


async def assert_run(
    app: Loom,
    run: RunHandle[..., Any] | str,
    *,
    status: str = "completed",
    result: Any = msgspec.UNSET,
    waiting_for: str | None = None,
) -> None:
    """Assert how a run stands, and show its journal if it stands otherwise.

    ``status`` is the run's status now; nothing is waited for. ``result`` is compared when given; ``waiting_for`` must
    be in the text of something that the run waits for. The app must be running. Raises AssertionError,
    RunNotFoundError.
    """
    handle = run if isinstance(run, RunHandle) else app.calls.run(*stream_of(run).split("/", 2)[1:])
    found = await handle.status()
    problem = ""
    if found.status != status:
        problem = f"is {found.status}, not {status}" + (f": {found.error}" if found.error else "")
    elif waiting_for is not None and not any(waiting_for in text for text in found.waiting_for):
        problem = f"does not wait for {waiting_for!r} but for {'; '.join(found.waiting_for) or 'nothing'}"
    elif result is not msgspec.UNSET and (value := await handle.result()) != result:
        problem = f"gave {value!r}, not {result!r}"
    if problem:
        raise AssertionError(f"{found.workflow}/{found.run_id} {problem}\n{await journal_text(app, handle)}")


def _line(event: EventView, began: float) -> str:
    when = "" if event.at is None else f"{event.at - began:+.3f} s"
    parts = [when.rjust(16), event.what.ljust(13), event.name]
    if event.position:
        parts.append(f"at {event.position}")
    if event.error:
        parts.append(f"ERROR {event.error}")
    elif event.value is not msgspec.UNSET:
        parts.append(f"= {_short(event.value)}")
    if event.state is not msgspec.UNSET:
        parts.append(f"state {_short(event.state)}")
    parts += [
        f"{name}={_short(value)}" for name, value in event.detail.items() if name not in ("version", "fingerprint")
    ]
    return " ".join(parts).rstrip()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(msgspec.to_builtins(value), default=repr, ensure_ascii=False)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
