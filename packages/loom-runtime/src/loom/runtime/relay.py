"""The relay: requests that came to a shard whose owner has no code for them, on their way to a host that has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..codec import error_info
from ..errors import LoomError, UnknownActorError, UnknownWorkflowError
from ..ports import Delivery, OutgoingMessage
from .entries import unwrap
from .job import Job
from .messages import Kind, Message, Reply, decode_message, shard_of, split_stream, type_mailbox, type_of
from .types_apart import Unit

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Relay"]

_log = logging.getLogger("loom.relay")
_BATCH = 100
_LEASE = 30.0
_LONGEST_PAUSE = 30.0
_PAUSE = 1.0


class Relay:
    """Moves requests from a shard's mailbox to that of their type, in order; whoever has the code reads them there.

    Where no living host has it they wait, ``unserved_window`` seconds at most. Moving one twice is harmless: the
    mailbox of the type drops the second by its id, and later the actor knows it.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: list[Job] = []
        self._pump: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._since = host.clock.now()
        self._next_look = 0.0

    def put(self, job: Job) -> None:
        """Move a request that was read from its shard's mailbox, behind those that were put before."""
        self._waiting.append(job)
        if self._pump is None:
            self._pump = self._host.background.spawn(self._run(), "loom relay")

    async def drain(self) -> None:
        """Wait until everything is moved, or given back."""
        while self._pump is not None:
            await asyncio.wait([self._pump])

    async def has_served(self, name: str) -> bool:
        """Whether any host is known to have, or to have had, code for the type."""
        known = self._host.placement.types.known
        if name not in known:
            for member in await self._host.coordination.members():
                known.update(member.serves)
            if name not in known:
                for lease in (await self._host.coordination.owners()).values():
                    known.update(found.type for found in lease.types)
        return name in known

    async def reunite(self, units: Sequence[Unit]) -> None:
        """Let this host's shards have types again that it serves, as soon as their own mailboxes are empty."""
        host = self._host
        async with self._lock:  # nothing is moved between the look and the end
            empty = []
            for unit in units:
                depth = await host.queue.depth(type_mailbox(*unit))
                if not (depth.ready or depth.delayed or depth.leased):
                    empty.append(unit)
            if empty:
                await host.placement.reunite(empty)

    async def sweep(self) -> None:
        """Give up what has waited too long in this host's shards for a host that has its code."""
        host, types = self._host, self._host.placement.types
        lonely = [unit for unit in types.apart if unit[1] not in types.served]
        if not lonely or host.clock.monotonic() < self._next_look:
            return
        self._next_look = host.clock.monotonic() + min(_LONGEST_PAUSE, host.options.unserved_window / 4)
        for unit in lonely:
            await self._give_up_old(unit)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                try:
                    async with self._lock:
                        await self._move(batch)
                except Exception as error:
                    _log.warning("loom: %d requests can't be moved to their types yet: %s", len(batch), error)
                    for job in batch:
                        assert job.delivery is not None
                        await self._host.inbox.retry(job.delivery, 0.5)
        finally:
            self._pump = None

    async def _move(self, batch: list[Job]) -> None:
        host, types = self._host, self._host.placement.types
        jobs = [(self._unit(job.message), job) for job in batch if not await self._refused(job)]
        await types.set_apart([unit for unit, job in jobs if not host.has_code(job.message.stream)])
        outgoing, moved = [], []
        for unit, job in jobs:
            delivery = job.delivery
            assert delivery is not None
            if unit in types.apart:
                outgoing.append(OutgoingMessage(
                    queue=type_mailbox(*unit), id=delivery.id, body=delivery.body, group=delivery.group,
                    priority=delivery.priority,
                ))  # fmt: skip
                moved.append(delivery)
            elif host.has_code(job.message.stream):
                host.deliver(job)
            elif not host.placement.owns(unit[0]):
                await host.inbox.retry(delivery, 0.05)  # the shard has gone elsewhere
            elif not await self._given_up(delivery, host.clock.now()):
                await host.inbox.retry(delivery, _PAUSE)  # this fleet's coordination sets nothing apart
        if moved:
            await host.queue.send_many(outgoing)
            await host.inbox.moved(moved)

    async def _refused(self, job: Job) -> bool:
        """Whether the request is for a type that nobody has ever served, and somebody waits who had better know."""
        message, host = job.message, self._host
        if not message.deadline or host.has_code(message.stream) or await self.has_served(type_of(message.stream)):
            return False
        host.answer(job, Reply(message.id, error=error_info(host.no_code(message.stream))))
        return True

    async def _give_up_old(self, unit: Unit) -> None:
        host, now = self._host, self._host.clock.now()
        while deliveries := await host.queue.receive([type_mailbox(*unit)], limit=_BATCH, lease=_LEASE):
            young = [delivery for delivery in deliveries if not await self._given_up(delivery, now)]
            for delivery in young:
                await host.queue.nack(delivery)
            if young:
                return

    async def _given_up(self, delivery: Delivery, now: float) -> bool:
        host = self._host
        try:
            message = decode_message(unwrap(delivery.body, host.codecs))
        except Exception as error:
            await host.inbox.dead_letter(delivery, f"it can't be read: {error}")
            return True
        waited = now - max(message.sent_at, self._since)
        if waited < host.options.unserved_window and not (message.expires_at and now >= message.expires_at):
            return False
        refusal = _unserved(message.stream, waited)
        if message.kind is Kind.SEND or not message.reply_to:
            await host.inbox.dead_letter(delivery, str(refusal))
        else:
            host.inbox.settle(Job(message, delivery=delivery), Reply(message.id, error=error_info(refusal)))
        return True

    def _unit(self, message: Message) -> Unit:
        return shard_of(message.stream, self._host.options.shards), type_of(message.stream)


def _unserved(stream: str, waited: float) -> LoomError:
    kind, name, _ = split_stream(stream)
    what, where = (f"actor type {name!r}", "actors") if kind == "actor" else (f"workflow {name!r}", "workflows")
    text = (
        f"no host serves {what}; the request waited {waited:.0f} s for one. Start a host that has it in "
        f"Loom({where}=[…]), then send it again ('loom dlq redrive' for a dead letter)"
    )
    return UnknownActorError(text, actor=name) if kind == "actor" else UnknownWorkflowError(text, workflow=name)
