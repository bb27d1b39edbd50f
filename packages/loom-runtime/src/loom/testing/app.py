"""An app in memory for one test, with the test's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ..actor import Actor
from ..adapters.memory.coordination import InMemoryCoordinationAdapter
from ..adapters.memory.documents import InMemoryDocumentStore
from ..adapters.memory.journal import InMemoryJournalStore
from ..adapters.memory.queue import InMemoryMessageQueue
from ..app import Loom
from ..plugins import PortName
from ..ports import Port
from ..workflow import Workflow
from .virtual_clock import VirtualClock

__all__ = ["memory_adapters", "memory_app"]

_NEVER_DEAD = 1e12
"""The members' life in seconds: a clock that jumps a month must not make its own host dead."""


def memory_adapters(clock: VirtualClock) -> dict[PortName, Port]:
    """Empty storage for the runtime's ports. Handed to one app after another, it outlives a restart."""
    return {
        "journal": InMemoryJournalStore(),
        "queue": InMemoryMessageQueue(clock=clock),
        "documents": InMemoryDocumentStore(clock=clock),
        "coordination": InMemoryCoordinationAdapter(clock=clock, member_ttl=_NEVER_DEAD),
    }


@asynccontextmanager
async def memory_app(
    actors: Sequence[type[Actor[Any]]] = (),
    workflows: Sequence[Workflow[Any, Any]] = (),
    *,
    clock: VirtualClock | None = None,
    adapters: Mapping[PortName, Port] | None = None,
    **more: Any,
) -> AsyncIterator[Loom]:
    """A running app over empty memory, whatever URLs the environment names; ``more`` goes to ``Loom``.

    ``async with memory_app(workflows=[trial], clock=clock) as app: …``. ``adapters`` of ``memory_adapters`` let a test
    stop one app and go on with another.
    """
    clock = clock or VirtualClock()
    more = {"env": "test", "options": {"shards": 8}, **more}
    adapters = memory_adapters(clock) if adapters is None else adapters
    async with Loom(actors, workflows, url="memory://", clock=clock, adapters=adapters, **more) as app:
        clock.watch(app)
        yield app
