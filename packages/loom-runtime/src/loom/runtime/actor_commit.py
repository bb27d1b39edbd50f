"""What an actor commits: entries, the messages in them, reminders that fire, and the pending record beside them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from ..errors import JournalConflictError
from .actor_state import Committed
from .crashpoints import crash_point
from .entries import TurnCommitted
from .messages import Kind, Message
from .pending import PendingRecord

if TYPE_CHECKING:
    from .actor_asking import ActorAsking
    from .actor_cell import ActorCell

__all__ = ["REVISIT", "commit", "conflict", "ensure_pending", "resend", "settle", "unsure"]

REVISIT = 1.0
"""Seconds after which an actor whose outcome is not known is read again, if nobody asks for it before."""


async def commit(cell: ActorCell, entry: TurnCommitted) -> asyncio.Future[None] | None:
    """Append the entry and hand over its messages; when these are queued, the future is done."""
    committed = cell.committed
    assert committed is not None
    entry_id = cell.host.ids.next()
    for index, message in enumerate(entry.outgoing):
        if not message.id:
            message.id = f"{entry_id}/{index}"
    cell.committing = asyncio.get_running_loop().create_future()
    try:
        await cell.append_as(entry_id, [entry])
    finally:
        cell.committing.set_result(None)
        cell.committing = None
    committed.apply(cell.head.seq, entry, cell.host.clock.now())
    cell.confirmed_at = cell.host.clock.monotonic()
    if not entry.outgoing:
        return None
    committed.sending = _hand_over(cell, committed, cell.head.seq, entry.outgoing)
    return committed.sending


async def ensure_pending(cell: ActorAsking, due: float) -> None:
    """Have a pending record that is due at ``due`` (Unix time) or before; durable when this returns."""
    if cell.pending_due is None or due < cell.pending_due:
        await cell.host.pending.put(cell.shard, PendingRecord(stream=cell.stream, due=due))
        cell.pending_due = due


async def conflict(cell: ActorCell) -> None:
    """Somebody else has written: learn who owns the shard before anything is activated again.

    Until then requests still queue up here, so that they go on in their order.
    """
    try:
        await cell.host.placement.reread()
    except Exception as error:
        cell.host.log.warning("%s: the owner of its shard can't be read: %s", cell.stream, error)
    cell.retired = True
    cell.host.drop(cell)


def unsure(cell: ActorCell) -> None:
    """Whoever activates next reads what became of things; nothing may be claimed here."""
    cell.retired = True
    cell.host.wake_at(cell.host.clock.now() + REVISIT, cell.stream)


def resend(cell: ActorCell, committed: Committed) -> None:
    """Hand over what the last host may not have sent, before anything newer leaves."""
    for seq, messages in sorted(committed.unsent.items()):
        committed.sending = _hand_over(cell, committed, seq, messages)


def _hand_over(cell: ActorCell, committed: Committed, seq: int, messages: list[Message]) -> asyncio.Future[None]:
    sending = cell.host.outbox.send(messages)
    sending.add_done_callback(partial(_on_sent, committed, seq))
    return sending


async def settle(cell: ActorCell) -> bool:
    """Bring the pending record in line with the journal; say whether there is more to do."""
    committed = cell.committed
    assert committed is not None
    if committed.sending is not None:
        await committed.sending
        committed.sending = None
    now = cell.host.clock.now()
    if any(reminder.due <= now for reminder in committed.reminders.values()):
        await _fire(cell, committed, now)
        return True
    due = min((r.due for r in committed.reminders.values()), default=None)
    if due != cell.pending_due:
        if due is None:
            await cell.host.pending.remove(cell.shard, cell.stream)
        else:
            await cell.host.pending.put(cell.shard, PendingRecord(stream=cell.stream, due=due))
        cell.pending_due = due
    if due is not None:
        cell.host.wake_at(due, cell.stream)
    return bool(cell.mailbox)


async def _fire(cell: ActorCell, committed: Committed, now: float) -> None:
    """Turn due reminders into messages to this actor: from here they are ordinary sends."""
    due = sorted((r for r in committed.reminders.values() if r.due <= now), key=lambda r: (r.due, r.name))
    life = cell.host.options.message_life
    outgoing = [
        Message(id="", kind=Kind.SEND, stream=cell.stream, method=r.method, args=r.args, sent_at=now,
                expires_at=now + life) for r in due
    ]  # fmt: skip
    fired = TurnCommitted(
        request="", method="(reminder)", at=now, state=None, version=cell.kind.state_version,
        outgoing=outgoing, forgotten=[r.name for r in due], sent=committed.sent,
    )  # fmt: skip
    try:
        await ensure_pending(cell, now)
        await commit(cell, fired)
        crash_point("reminder.fired")
    except JournalConflictError:
        await conflict(cell)
        unsure(cell)


def _on_sent(committed: Committed, seq: int, future: asyncio.Future[None]) -> None:
    if not future.cancelled() and future.exception() is None:
        committed.unsent.pop(seq, None)
        if not committed.unsent:
            committed.sent = max(committed.sent, seq)
