"""Recorded histories: what a run's journal holds, as a file, and new code replayed against it.

A history kept with the tests says, before a deployment, whether the runs that are under way will survive it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..__about__ import __version__
from ..app import Loom
from ..client import RunHandle
from ..clock import SystemClock
from ..codec import PayloadCodec
from ..errors import CorruptEntryError, NonDeterminismError, RunNotFoundError
from ..options import RuntimeOptions
from ..ports import JournalStore
from ..resources import Resources
from ..runtime.commands import Call, Command, Sleep, Step
from ..runtime.entries import Event, RunContinued, decode_entry, encode_entry
from ..runtime.execution import Execution
from ..runtime.journal_view import read_entries, view_event
from ..runtime.messages import run_stream, split_stream
from ..runtime.run_history import RunHistory
from ..runtime.run_replay import replay
from ..runtime.steps import StepRunner
from ..workflow import Workflow
from .journals import codecs_of, open_journal, stream_of

__all__ = ["export_history", "replay_history"]

_FORMAT = 1


class _Entry(msgspec.Struct, kw_only=True):
    """``data`` is what counts; ``events`` are the same for the eye and for diffs."""

    seq: int
    data: bytes
    events: list[Any] = []


class _History(msgspec.Struct, kw_only=True):
    format: int
    workflow: str
    run_id: str
    entries: list[_Entry]
    loom: str = ""


async def export_history(
    app: Loom | JournalStore, run: RunHandle[..., Any] | str, *, codecs: Sequence[PayloadCodec] | None = None
) -> str:
    """The recorded history of a run as JSON, for ``replay_history``; ``run`` is a handle or ``"WORKFLOW/RUN_ID"``.

    ``app`` may be running or not; in its place an open journal will do, as ``app.ports()`` gives it: a client has none.
    The run may have ended or not, and is left alone. ``codecs`` are those by which a journal is wrapped; None means
    those of the app, and none for a journal. Arguments, results and signals are in the text in the clear, whatever the
    codecs. Raises RunNotFoundError, CorruptEntryError, and TypeError for what has no journal.
    """
    stream = stream_of(run)
    async with open_journal(app) as journal:
        entries = await _read(journal, stream, codecs_of(app) if codecs is None else tuple(codecs))
    if not entries:
        raise RunNotFoundError(f"{stream} has no journal: there is no such run", stream=stream)
    _, workflow, run_id = split_stream(stream)
    history = _History(format=_FORMAT, workflow=workflow, run_id=run_id, entries=entries, loom=__version__)
    return json.dumps(msgspec.to_builtins(history), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


async def _read(journal: JournalStore, stream: str, codecs: tuple[PayloadCodec, ...]) -> list[_Entry]:
    found: list[tuple[int, list[Event]]] = []
    snapshot = await journal.read_snapshot(stream)
    if snapshot is not None:
        found.append((snapshot.seq, decode_entry(stream, snapshot.seq, snapshot.data, codecs)))
    async for entry in read_entries(journal, stream, 0 if snapshot is None else snapshot.seq, limit=2**31):
        if isinstance(entry, CorruptEntryError):
            raise entry
        found.append((entry.seq, decode_entry(stream, entry.seq, entry.data, codecs)))
    return [
        _Entry(
            seq=seq,
            data=encode_entry(events),
            events=[msgspec.to_builtins(view_event(event), enc_hook=repr) for event in events],
        )
        for seq, events in found
    ]


def replay_history(
    history: str | bytes, workflow: Workflow[..., Any], *, resources: Mapping[type[Any], Any] | None = None
) -> None:
    """Drive ``workflow`` through a recorded history, without a step run or a message sent. Returns when it fits.

    ``resources`` are given to ``ctx.resource`` by type. Raises NonDeterminismError when the code asks for something
    else than what is recorded: ``error.context`` has ``position``, ``recorded`` and ``asked``. Raises ValueError for
    what is not a history.
    """
    recorded = _parse(history)
    stream = run_stream(recorded.workflow, recorded.run_id)
    offered = Resources()
    offered.provide(resources)
    collected = RunHistory()
    decoded = [(entry.seq, decode_entry(stream, entry.seq, entry.data)) for entry in recorded.entries]
    if not decoded:
        raise ValueError("the history holds no entry; export it again with export_history")
    for index, (seq, events) in enumerate(decoded):
        collected.add(seq, events)
        # A continuation ends an incarnation; the entries before it are forgotten with the next one's start.
        if index == len(decoded) - 1 or isinstance(events[-1], RunContinued):
            _replay_incarnation(stream, collected, workflow, offered)


def _parse(history: str | bytes) -> _History:
    try:
        recorded = msgspec.json.decode(history, type=_History)
    except msgspec.MsgspecError as error:
        raise ValueError(f"this is not a history made by export_history: {error}") from error
    if recorded.format != _FORMAT:
        raise ValueError(f"the history has format {recorded.format}, this release reads {_FORMAT}")
    return recorded


def _replay_incarnation(
    stream: str, history: RunHistory, workflow: Workflow[..., Any], resources: Resources
) -> None:  # fmt: skip
    started = history.started
    if started is None or not history.entries:
        return
    execution = Execution(
        stream, split_stream(stream)[2], workflow, StepRunner(SystemClock(), ()), resources,
        RuntimeOptions().message_life, incarnation=started.incarnation, versions=history.versions,
        published=history.published, retries=history.retries,
    )  # fmt: skip
    try:
        replay(stream, history, execution, started.at)
        _compare_ends(stream, history, execution)
    except NonDeterminismError as error:
        error.context.setdefault("position", _position(history, error.context.get("seq")))
        raise
    finally:
        execution.close()


def _compare_ends(stream: str, history: RunHistory, execution: Execution) -> None:
    """A run that has ended is not replayed in production, so the runtime does not compare this: a test should."""
    recorded = [e for entry in history.entries for e in entry.outputs if e is history.finished]
    continued = [e for entry in history.entries for e in entry.outputs if isinstance(e, RunContinued)]
    if not (recorded or continued):
        return
    before = "continue_as_new" if continued else f"the end, {getattr(recorded[-1], 'status', '')}"
    if execution.finished is None:
        position, command = next(iter(execution.waiting.items()), ("", None))
        now = "nothing" if command is None else _describe(command)
    else:
        position = "end"
        ended = execution.finished
        now = "continue_as_new" if isinstance(ended, RunContinued) else f"the end, {ended.status}"
    if before != now:
        raise NonDeterminismError(
            f"{stream}: at position {position} the journal has {before}, the code asks {now}",
            stream=stream, position=position, recorded=before, asked=now,
        )  # fmt: skip


def _describe(command: Command) -> str:
    if isinstance(command, Sleep):
        return f"sleep of {command.seconds:g} s"
    return f"{command.kind} {command.name!r}" if isinstance(command, Step | Call) else f"{command.kind} {command.name}"


def _position(history: RunHistory, seq: Any) -> str:
    """The place of the first input of the entry ``seq``, where the error itself names none."""
    for entry in history.entries:
        if entry.seq == seq:
            return next((e.position for e in entry.inputs if hasattr(e, "position")), "")
    return ""
