"""Where a test finds the journal of an app, and the stream of a run or of an actor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from ..app import Loom
from ..client import RunHandle
from ..codec import PayloadCodec
from ..ports import JournalStore
from ..references import ActorRef
from ..runtime.messages import actor_stream, run_stream

__all__ = ["codecs_of", "open_journal", "stream_of"]


@asynccontextmanager
async def open_journal(app: Loom | JournalStore) -> AsyncIterator[JournalStore]:
    """The journal of the app: the one that it runs on, or opened for as long as the context is. A journal is itself.

    Raises TypeError for anything else.
    """
    if isinstance(app, JournalStore):
        yield app
    elif not isinstance(app, Loom):
        raise TypeError(
            f"a {type(app).__name__} has no journal: give the app, running or not, "
            'or the open journal of `async with app.ports() as ports`, ports["journal"]'
        )
    elif app._host is not None:
        yield app.host.journal
    else:
        async with app.ports() as ports:
            yield cast(JournalStore, ports["journal"])


def codecs_of(app: Loom | JournalStore) -> tuple[PayloadCodec, ...]:
    """What wraps the entries; an app knows, a journal alone is taken to hold them plain."""
    return app.payload_codecs if isinstance(app, Loom) else ()


def stream_of(target: Any) -> str:
    """The stream of a run handle, of an actor reference, or of ``"WORKFLOW/RUN_ID"``."""
    if isinstance(target, RunHandle):
        return run_stream(target.workflow, target.run_id)
    if isinstance(target, ActorRef):
        return actor_stream(target._kind.name, target._key)
    if not isinstance(target, str):
        raise TypeError(f"a run handle, an actor reference or 'WORKFLOW/RUN_ID', not {type(target).__name__}")
    if target.startswith(("run/", "actor/")) and target.count("/") > 1:
        return target
    workflow, slash, run_id = target.partition("/")
    if not slash:
        raise ValueError(f"{target!r} is no WORKFLOW/RUN_ID")
    return run_stream(workflow, run_id)
