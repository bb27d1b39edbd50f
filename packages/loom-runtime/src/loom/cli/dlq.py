"""``loom dlq``: requests and recoveries that were given up, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from .options import AppOption, JsonOption, TomlOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ..runtime.messages import Message
    from .session import Session

__all__ = ["group"]

QueueArgument = Annotated[
    str | None, typer.Argument(metavar="[QUEUE]", help="loom/shard/N, or 'pending' for poisoned work; else all.")
]
Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this one; may be repeated.")]
PENDING = "pending"


class Dead(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A dead letter, or a poisoned pending record (``queue`` is then "pending" and ``id`` its stream)."""

    queue: str
    id: str
    reason: str
    dead_at: float = 0.0
    attempts: int = 0
    stream: str = ""
    kind: str = ""
    method: str = ""
    args: Any = msgspec.UNSET
    sent_at: float = 0.0
    expires_at: float = 0.0
    unreadable: str = ""
    shard: int = 0


def group() -> typer.Typer:
    """The commands under ``loom dlq``."""
    app = typer.Typer(help="Dead letters: list, show, send again, or discard.", no_args_is_help=True)
    app.command("list")(list_dead)
    app.command("show")(show)
    app.command("redrive")(redrive)
    app.command("discard")(discard)
    return app


def list_dead(
    queue: QueueArgument = None, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """List what was given up."""
    from .output import Output, clock_time

    found = _collect(queue, None, url, toml, app)
    out = Output(json=json)
    if json:
        out.data({"dead": found})
        return
    rows = [(d.queue, d.id, d.stream, d.method or d.kind, d.attempts, clock_time(d.dead_at), d.reason) for d in found]
    out.table(("queue", "id", "stream", "asked", "attempts", "given up", "reason"), rows, empty="nothing was given up")


def show(
    queue: QueueArgument = None, ids: Ids = None, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Show dead letters with everything that is known of them."""
    from .output import Output, clock_time, text_of

    found = _collect(queue, ids, url, toml, app)
    out = Output(json=json)
    if json:
        out.data({"dead": found})
        return
    for dead in found:
        out.line(f"{dead.queue} {dead.id}", style="bold")
        for name, value in msgspec.structs.asdict(dead).items():
            if value not in ("", 0, 0.0) and value is not msgspec.UNSET and name not in ("queue", "id"):
                text = value if isinstance(value, str) else text_of(value)
                text = clock_time(value) if name.endswith("_at") else text
                out.line(f"  {name:<11}{text}")
    if not found:
        out.line("nothing was given up")


def redrive(
    queue: QueueArgument = None, ids: Ids = None, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Send dead letters again, each as a NEW request with an id and a life of its own: it may run a second time."""
    from .output import Output

    _require_choice(queue, ids)
    done = _each(queue, ids, url, toml, app, _redrive)
    out = Output(json=json)
    if json:
        out.data({"redriven": done})
        return
    for item in done:
        if item["queue"] == PENDING:
            when = "goes on" if item["resumed"] else "goes on when a host that has its code takes its shard"
            out.line(f"{item['id']} {when}")
        else:
            out.line(f"{item['id']} was sent again as the NEW request {item['new_id']}")
            out.line("  if the old request has run after all, it now runs a second time")
    _say_count(out, done, "sent again")


def discard(
    queue: QueueArgument = None, ids: Ids = None, url: UrlOption = None, toml: TomlOption = None, app: AppOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Delete dead letters for good. Poisoned pending work is not deleted: it belongs to a stream that still exists."""
    from .output import Output

    _require_choice(queue, ids)
    if queue == PENDING:
        raise typer.BadParameter("pending work can be redriven, not discarded; cancel the run instead")
    done = _each(queue, ids, url, toml, app, _discard)
    out = Output(json=json)
    out.data({"discarded": done}) if json else _say_count(out, done, "discarded")


def _require_choice(queue: str | None, ids: list[str] | None) -> None:
    if queue is None and not ids:
        raise typer.BadParameter("name a QUEUE or, with --id, what is meant; 'loom dlq list' shows them")


def _say_count(out: Any, done: list[dict[str, Any]], what: str) -> None:
    out.line(f"{len(done)} {what}")


def _collect(
    queue: str | None, ids: list[str] | None, url: str | None, toml: str | None, app: str | None
) -> list[Dead]:
    from .session import open_session, wait_for

    async def work() -> list[Dead]:
        async with open_session(app, url, toml) as session:
            return [dead async for dead, _ in _dead(session, queue, ids)]

    return wait_for(work())


def _each(
    queue: str | None, ids: list[str] | None, url: str | None, toml: str | None, app: str | None,
    work: Callable[[Session, Dead, Message | None], Awaitable[dict[str, Any] | None]],
) -> list[dict[str, Any]]:  # fmt: skip
    from ..errors import QueueError
    from .session import open_session, wait_for

    async def all_of_them() -> list[dict[str, Any]]:
        async with open_session(app, url, toml) as session:
            # Collected first: what is sent again may come back as a dead letter while the list is still read.
            found = [pair async for pair in _dead(session, queue, ids)]
            missing = set(ids or ()) - {dead.id for dead, _ in found}
            if missing:
                raise QueueError(f"not among the dead letters: {', '.join(sorted(missing))}", ids=sorted(missing))
            done = [await work(session, dead, message) for dead, message in found]
            return [item for item in done if item is not None]

    return wait_for(all_of_them())


async def _redrive(session: Session, dead: Dead, message: Message | None) -> dict[str, Any] | None:
    import time

    from ..runtime.messages import derived_id
    from ..runtime.outbox import envelope

    now = time.time()
    if dead.queue == PENDING:
        again = await session.pending.redrive(dead.shard, dead.stream, now)
        return {"queue": PENDING, "id": dead.id, "resumed": await _woken(session, dead.stream)} if again else None
    if message is None:
        return None  # unreadable: it would only die again
    life = session.app.settings.options.message_life
    # Derived, so that a redrive which was cut off between sending and discarding does not run twice when repeated.
    new_id = derived_id("redrive", dead.queue, dead.id, repr(dead.dead_at))
    new = msgspec.structs.replace(
        message, id=new_id, sent_at=now, expires_at=now + life, deadline=now + life, memory=0.0, chain=(),
        fingerprint=b"", reply_to="", ticket="",
    )  # fmt: skip
    # The queue's name says which shard it is, so the fleet's own number of shards is not needed here. What was given
    # up in the mailbox of its type begins again in that of the shard: who has the code may be another by now.
    mailbox = "/".join(dead.queue.split("/")[:3])
    outgoing = msgspec.structs.replace(envelope(new, 1, session.codecs, now), queue=mailbox)
    await session.queue.send(outgoing)
    await session.queue.discard(dead.queue, [dead.id])
    return {"queue": dead.queue, "id": dead.id, "new_id": new.id}


async def _woken(session: Session, stream: str) -> bool:
    """Whether a host goes on with it now; else whoever next takes its shard does."""
    from ..codec import decode
    from ..errors import LoomError
    from ..runtime.messages import Kind, split_stream

    kind, name, _ = split_stream(stream)
    try:
        await session.require_host("actor" if kind == "actor" else "workflow", name)
        async with session.client(timeout=5.0) as client:
            return bool(decode(await client.ask(Kind.WAKE, stream)))
    except LoomError:
        return False


async def _discard(session: Session, dead: Dead, message: Message | None) -> dict[str, Any] | None:
    [gone] = await session.queue.discard(dead.queue, [dead.id])
    return {"queue": dead.queue, "id": dead.id} if gone else None


async def _dead(
    session: Session, queue: str | None, ids: list[str] | None
) -> AsyncIterator[tuple[Dead, Message | None]]:
    if queue in (None, PENDING):
        async for shard, record in session.pending.poisoned():
            if not ids or record.stream in ids:
                reason = f"resuming it has ended {max(0, record.resumed - 1)} times with a crash of its host"
                yield Dead(queue=PENDING, id=record.stream, stream=record.stream, reason=reason, shard=shard), None
    names = [queue] if queue is not None else await session.queue.queues()
    for name in names:
        if name == PENDING or not name.startswith("loom/shard/"):
            continue
        async for pair in _letters(session, name):
            if not ids or pair[0].id in ids:
                yield pair


async def _letters(session: Session, queue: str) -> AsyncIterator[tuple[Dead, Message | None]]:
    from ..runtime.entries import unwrap
    from ..runtime.journal_view import readable
    from ..runtime.messages import decode_message

    after = ""
    while letters := await session.queue.dead_letters(queue, after=after):
        for letter in letters:
            dead = Dead(
                queue=queue, id=letter.id, reason=letter.reason, dead_at=letter.dead_at, attempts=letter.attempts,
                stream=letter.group,
            )  # fmt: skip
            message = None
            try:
                message = decode_message(unwrap(letter.body, session.codecs))
            except Exception as error:
                dead.unreadable = str(error)
            else:
                dead.stream, dead.kind, dead.method = message.stream, message.kind.name.lower(), message.method
                dead.args, dead.sent_at, dead.expires_at = readable(message.args), message.sent_at, message.expires_at
            yield dead, message
        after = letters[-1].id
