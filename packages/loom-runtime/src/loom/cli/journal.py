"""``loom journal``: what is written in a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AppOption, JsonOption, TomlOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..ports import JournalStore
    from ..runtime.journal_view import EntryView, EventView
    from .output import Output
    from .session import Session

__all__ = ["journal"]


def journal(
    stream: Annotated[
        str | None,
        typer.Argument(metavar="[STREAM]", help="actor/Account/alice, Account/alice, transfer/t-1 …; else a list."),
    ] = None,
    after: Annotated[int | None, typer.Option("--after", min=0, help="Entries above this position.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many entries, or streams.")] = 100,
    prefix: Annotated[str, typer.Option("--prefix", help="List streams that begin so.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="The stored bytes in hexadecimal, undecoded.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more; with --json a document a line.")] = False,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Read a stream: head, snapshot and entries, decoded. Without STREAM list the streams. Needs no running host."""
    from .output import Output
    from .session import open_session, wait_for

    out = Output(json=json)

    async def work() -> None:
        async with open_session(app, url, toml) as session:
            if stream is None:
                await _list(session.journal, prefix, limit, out)
            else:
                await _show(session, stream, after, limit, raw, follow, out)

    try:
        wait_for(work())
    except KeyboardInterrupt:
        if not follow:
            raise


async def _list(journal: JournalStore, prefix: str, limit: int, out: Output) -> None:
    names = await journal.streams(prefix, limit=limit + 1)
    more, names = len(names) > limit, names[:limit]
    heads = await journal.heads(names) if names else []
    if out.json:
        rows: list[dict[str, Any]] = [
            {"stream": name, "entries": head.seq, "snapshot": head.snapshot_seq}
            for name, head in zip(names, heads, strict=True)
        ]
        out.data({"streams": rows, "more": more})
        return
    out.table(
        ("stream", "entries", "snapshot"),
        [(name, head.seq, head.snapshot_seq or "") for name, head in zip(names, heads, strict=True)],
        empty="no streams",
    )
    if more:
        out.line(f"… and more; see --prefix and --limit (now {limit})")


async def _show(
    session: Session, text: str, after: int | None, limit: int, raw: bool, follow: bool, out: Output
) -> None:
    import asyncio

    from ..runtime.journal_view import first_kept, view_snapshot
    from .lookup import find_stream

    journal = session.journal
    stream = await find_stream(journal, text)
    head = await journal.head(stream)
    stored = await journal.read_snapshot(stream)
    snapshot = None if stored is None or raw else view_snapshot(stream, stored.seq, stored.data, session.codecs)
    start = await first_kept(journal, stream, after or 0, head.seq)
    # A long stream is read from its end, where the news is, unless somebody asks for a position.
    if after is None:
        start = max(start, head.seq - limit)
    entries = [entry async for entry in _entries(session, stream, start, limit, raw)]
    if out.json and not follow:
        found: dict[str, Any] = {"stream": stream, "head": head, "after": start, "entries": entries}
        out.data({**found, "snapshot": stored if raw else snapshot})
        return
    if not out.json:
        _show_top(out, stream, head, snapshot, start)
    for entry in entries:
        _show_entry(out, entry)
    if entries and not session.codecs and all(entry.corrupt for entry in entries):
        out.remark("no entry can be read: an app with payload codecs is named by --app MODULE:APP")
    last = entries[-1].seq if entries else start
    if not follow and last < head.seq:
        out.line(f"… {head.seq - last} more; go on with --after {last}")
    while follow:
        async for entry in _entries(session, stream, last, 500, raw):
            _show_entry(out, entry)
            last = entry.seq
        await asyncio.sleep(0.3)


async def _entries(session: Session, stream: str, after: int, limit: int, raw: bool) -> AsyncIterator[EntryView]:
    from ..errors import CorruptEntryError
    from ..runtime.journal_view import EntryView, read_entries, view_entry

    async for entry in read_entries(session.journal, stream, after, limit):
        if isinstance(entry, CorruptEntryError):
            yield EntryView(seq=entry.context["seq"], corrupt=str(entry))
        elif raw:
            yield EntryView(
                seq=entry.seq, entry_id=entry.entry_id, fence=entry.fence, size=len(entry.data), raw=entry.data.hex()
            )
        else:
            yield view_entry(stream, entry, session.codecs)


def _show_top(out: Output, stream: str, head: Any, snapshot: Any, start: int) -> None:
    from .output import clock_time, text_of

    out.line(stream, style="bold")
    out.line(f"  head {head.seq} ({head.entry_id}), fence {head.fence}, snapshot {head.snapshot_seq or 'none'}")
    if snapshot is not None and snapshot.corrupt:
        out.line(f"  SNAPSHOT {snapshot.seq} CAN'T BE READ: {snapshot.corrupt}", style="red")
    elif snapshot is not None:
        out.line(f"  snapshot {snapshot.seq} of {clock_time(snapshot.at)}: state {text_of(snapshot.state)}")
    if start:
        out.line(f"  entries 1 to {start} are not shown or have been trimmed")


def _show_entry(out: Output, entry: EntryView) -> None:
    if out.json:
        out.data(entry)
    elif entry.corrupt:
        out.line(f"{entry.seq:>6}  CAN'T BE READ: {entry.corrupt}", style="red")
    elif entry.raw:
        out.line(f"{entry.seq:>6}  {entry.entry_id}  fence {entry.fence}  {entry.raw}")
    else:
        for number, event in enumerate(entry.events):
            out.line(f"{entry.seq if number == 0 else '':>6}  {_event_line(event)}")


def _event_line(event: EventView) -> str:
    import msgspec

    from .output import clock_time

    parts = [clock_time(event.at).ljust(29), event.what.ljust(13), event.name]
    if event.position:
        parts.append(f"at {event.position}")
    if event.error:
        parts.append(f"ERROR {event.error}")
    elif event.value is not msgspec.UNSET:
        parts.append(("= " if event.what in ("turn", "result", "turn-step", "finished") else "") + _short(event.value))
    if event.state is not msgspec.UNSET:
        parts.append(f"state {_short(event.state)}")
    told = {name: value for name, value in event.detail.items() if name not in ("version", "fingerprint")}
    parts += [f"{name}={_short(value)}" for name, value in told.items()]
    if event.request:
        parts.append(f"[{event.request}]")
    return " ".join(parts).rstrip()


def _short(value: Any) -> str:
    from .output import text_of

    text = value if isinstance(value, str) else text_of(value)
    return text if len(text) <= 160 else f"{text[:157]}…"
