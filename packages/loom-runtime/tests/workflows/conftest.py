"""A place where runs live, and three ways to leave it: close the app, abandon it as a crash would, open it again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from loom import Actor, Loom
from loom.adapters.memory.coordination import InMemoryCoordinationAdapter
from loom.adapters.memory.documents import InMemoryDocumentStore
from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.runtime.entries import Event, decode_entry
from loom.testing.clock import ManualClock
from loom.workflow import Workflow


class House:
    """Opens apps over the same storage, one after another."""

    def __init__(self, storage: str, folder: Path) -> None:
        self.storage = storage
        self.folder = folder
        self.clock: ManualClock | None = None
        self.options: dict[str, Any] = {"drain_seconds": 5.0, "shards": 8}
        self.app: Loom | None = None
        self.workflows: Sequence[Workflow[Any, Any]] = ()
        self.actors: Sequence[type[Actor[Any]]] = ()
        self._memory: dict[str, Any] = {}

    def manual(self) -> ManualClock:
        """Time moves by hand from here on."""
        self.clock = ManualClock()
        return self.clock

    async def open(
        self, *workflows: Workflow[Any, Any], actors: Sequence[type[Actor[Any]]] | None = None, **more: Any
    ) -> Loom:
        """Host the workflows, or those of before."""
        if workflows:
            self.workflows = workflows
        if actors is not None:
            self.actors = actors
        options = dict(self.options)
        arguments: dict[str, Any] = {"env": "test", "options": options, "clock": self.clock, **more}
        if self.storage == "memory":
            if not self._memory:
                documents = InMemoryDocumentStore(clock=self.clock)
                self._memory = {
                    "journal": InMemoryJournalStore(),
                    "queue": InMemoryMessageQueue(clock=self.clock),
                    "documents": documents,
                }
            coordination = InMemoryCoordinationAdapter(clock=self.clock, member_ttl=1e9)
            arguments["url"] = "memory://"
            arguments["adapters"] = {**self._memory, "coordination": coordination}
        else:
            arguments["url"] = f"sqlite:///{self.folder}/loom.db"
        app = Loom(workflows=self.workflows, actors=self.actors, **arguments)
        await app.__aenter__()
        self.app = app
        return app

    async def close(self) -> None:
        """Stop the host in good order."""
        if self.app is not None:
            app, self.app = self.app, None
            await app.__aexit__(None, None, None)

    async def crash(self) -> None:
        """Abandon the host: whatever it does stops where it is, nothing is finished or handed over."""
        app, self.app = self.app, None
        assert app is not None
        host = app.host
        host.stopping = True
        await host.background.cancel()
        for cell in list(host.cells.values()):
            if (work := getattr(cell, "work", None)) is not None:
                work.release(cell)
            if (execution := getattr(cell, "execution", None)) is not None:
                execution.close()
        host.cells.clear()
        with contextlib.suppress(Exception):
            await host.placement.leave()

        async def nothing() -> None:
            await host.background.cancel()

        host.stop = nothing  # type: ignore[method-assign]
        await app.__aexit__(None, None, None)

    async def restart(self, *workflows: Workflow[Any, Any], crash: bool = False, **more: Any) -> Loom:
        """Leave, in good order or not, and open again."""
        await (self.crash() if crash else self.close())
        return await self.open(*workflows, **more)

    async def journal(self, stream: str) -> list[list[Event]]:
        """The entries of a stream that are kept."""
        assert self.app is not None
        entries = await self.app.host.journal.read(stream, after=0, limit=1_000)
        return [decode_entry(stream, entry.seq, entry.data) for entry in entries]

    async def until(self, condition: Callable[[], Any], what: str = "the condition") -> Any:
        """Wait for a condition, however the machine is loaded."""
        async with asyncio.timeout(20):
            while True:
                value = condition()
                if hasattr(value, "__await__"):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.001)

    async def waits(self, handle: Any, text: str) -> None:
        """Wait until the run waits for something."""

        async def waiting() -> bool:
            return any(text in line for line in (await handle.status()).waiting_for)

        await self.until(waiting, text)


@pytest.fixture(params=["sqlite", "memory"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(request.param, tmp_path)
    yield house
    await house.close()


@pytest.fixture
async def sqlite_house(tmp_path: Path) -> AsyncIterator[House]:
    house = House("sqlite", tmp_path)
    yield house
    await house.close()
