"""Storage that outlives hosts, and hosts over it that are stopped or crash within this process."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom import Actor, Loom
from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
from loom.adapters.memory.documents import InMemoryDocumentStore
from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.adapters.sqlite import queue_tables
from loom.clock import SystemClock
from loom.plugins import AdapterContext, AdapterRegistry, PortName
from loom.ports import DeadLetter, JournalStore, MessageQueue, Port
from loom.runtime.entries import Event, decode_entry
from loom.runtime.messages import actor_stream, mailbox_queue
from loom.testing.clock import ManualClock
from loom.testing.faults import FaultPlan, Faulty

SHARDS = 16


class Place:
    """Where actors live. ``open`` hosts, ``crash`` leaves a host in the middle of whatever it does."""

    def __init__(self, storage: str, folder: Path) -> None:
        self.storage = storage
        self.url = "memory://" if storage == "memory" else f"sqlite:///{folder}/loom.db"
        self.clock: ManualClock | None = None
        self.options: dict[str, Any] = {"shards": SHARDS, "drain_seconds": 5.0}
        self.apps: list[Loom] = []
        self._memory: dict[PortName, Port] = {}

    def manual(self) -> ManualClock:
        """From here on time stands still until it is moved."""
        self.clock = ManualClock()
        return self.clock

    def make(self, *actors: type[Actor[Any]], plans: dict[str, FaultPlan] | None = None, **more: Any) -> Loom:
        """An app that is not started. ``plans`` gives faults by port; ``options`` override those of the place."""
        options = {**self.options, **more.pop("options", {})}
        app = Loom(
            actors, url=self.url, env="test", clock=self.clock, options=options,
            adapters=self._adapters(plans or {}), **more,
        )  # fmt: skip
        return app

    async def open(self, *actors: type[Actor[Any]], **more: Any) -> Loom:
        """A host."""
        app = self.make(*actors, **more)
        await app.__aenter__()
        self.apps.append(app)
        return app

    async def close(self, app: Loom) -> None:
        """Stop a host in good order."""
        self.apps.remove(app)
        await app.__aexit__(None, None, None)

    async def crash(self, app: Loom) -> None:
        """End a host as a crash would: its tasks stop where they are; nothing is drained, settled or handed over.

        Its membership ends too, as another host would find out by its missing sign of life.
        """
        self.apps.remove(app)
        host = app.host
        host.stopping = True
        for task in list(host.background._tasks):
            task.cancel()
        await host.background.cancel()
        host.timers.close()
        host.deadlines.close()
        host.cells.clear()
        with contextlib.suppress(Exception):
            await host.coordination.leave(host.placement.member.id)

        async def nothing() -> None:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(getattr(loop.get_task_factory(), "__loom_previous__", None))

        host.stop = nothing  # type: ignore[method-assign]
        await app.__aexit__(None, None, None)

    async def expire_leases(self, app: Loom) -> None:
        """What a crashed host had received can be received again at once, and not when its lease ends."""
        queue: Any = app.host.queue
        queue = queue.__dict__.get("_adapter", queue)
        if self.storage == "memory":
            now = queue._clock.now()
            for lane in queue._world.queues.values():
                for message in lane.messages.values():
                    if message.receipt:
                        lane.put_back(message, now, 0.0)
            queue._world.wake()
        else:

            def work(connection: sqlite3.Connection) -> None:
                connection.execute("UPDATE queue_messages SET due = 0 WHERE state = 1")
                queue_tables.touch(connection)

            await queue._database.write(work)

    async def close_all(self) -> None:
        for app in reversed(list(self.apps)):
            await self.close(app)

    def _adapters(self, plans: dict[str, FaultPlan]) -> dict[PortName, Port]:
        ports: dict[PortName, Port]
        if self.storage == "memory":
            if not self._memory:
                documents = InMemoryDocumentStore(clock=self.clock)
                self._memory = {
                    "journal": InMemoryJournalStore(),
                    "queue": InMemoryMessageQueue(clock=self.clock),
                    "documents": documents,
                    "coordination": InMemoryCoordinationAdapter(clock=self.clock, member_ttl=1e9),
                }
            ports = {name: type(port).sharing(port) for name, port in self._memory.items()}  # type: ignore[attr-defined]
        else:
            registry, context = AdapterRegistry(), AdapterContext(self.clock or SystemClock())
            ports = {name: registry.open(name, self.url, context) for name in plans}  # type: ignore[misc, call-overload]
        return {name: Faulty(port, plans[name]) if name in plans else port for name, port in ports.items()}

    async def entries(self, app: Loom, actor: type[Actor[Any]], key: str) -> list[list[Event]]:
        """The journal of an actor, as far as it is kept."""
        stream = actor_stream(actor.__name__, key)
        found = await app.host.journal.read(stream, after=(await app.host.journal.head(stream)).snapshot_seq)
        return [decode_entry(stream, entry.seq, entry.data, app.host.codecs) for entry in found]


def journal(app: Loom) -> JournalStore:
    return app.host.journal


def queue(app: Loom) -> MessageQueue:
    return app.host.queue


async def dead_letters(app: Loom) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    for shard in range(SHARDS):
        found += await app.host.queue.dead_letters(mailbox_queue(shard))
    return found


async def eventually(condition: Callable[[], Any], what: str = "the condition", seconds: float = 25.0) -> Any:
    """The first true value of ``condition``, waited for as long as a loaded machine may need."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        value = condition()
        if hasattr(value, "__await__"):
            value = await value
        if value:
            return value
        if loop.time() > until:
            pytest.fail(f"{what} never came")
        await asyncio.sleep(0.002)
