"""Session: the stores that a command looks at, and a client for those that call. Nothing here hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..clock import SystemClock
from ..errors import LoomError, RemoteError, UnknownActorError, UnknownWorkflowError
from ..ports import CoordinationAdapter, DocumentStore, JournalStore, MessageQueue
from ..runtime.pending import PendingRecords
from .redacted import know

if TYPE_CHECKING:
    from ..app import Loom
    from ..client import Client

__all__ = ["Session", "make_app", "open_session", "told", "wait_for"]

T = TypeVar("T")


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(work)


def make_app(app: str | None, url: str | None, toml: str | None) -> Loom:
    """The app named by ``--app``, or one without actors that knows where everything lives."""
    from ..app import Loom
    from .target import load_app

    if app is None:
        made = Loom(url=url, toml=toml)
        know(made.secrets.redactor)
        return made
    if url is not None or toml is not None:
        import typer

        raise typer.BadParameter("--app brings its own settings; leave out --url and --toml")
    found = load_app(app)
    know(found.secrets.redactor)
    return found


class Session:
    """The open stores of an app."""

    def __init__(self, app: Loom, ports: Any) -> None:
        self.app = app
        self.codecs = app.payload_codecs
        self.journal = cast(JournalStore, ports["journal"])
        self.queue = cast(MessageQueue, ports["queue"])
        self.coordination = cast(CoordinationAdapter, ports["coordination"])
        self.pending = PendingRecords(cast(DocumentStore, ports["documents"]), SystemClock())
        self._ports = ports

    @asynccontextmanager
    async def client(self, timeout: float | None = None) -> AsyncIterator[Client]:
        """A client over the open stores; ``timeout`` is how many seconds it waits for an answer."""
        async with self.app.client(ports=self._ports, call_timeout=timeout) as client:
            yield client

    async def require_host(self, kind: str, name: str) -> None:
        """Raise, before anything is sent, when no living host has code for the actor type or workflow ``name``."""
        members = await self.coordination.members()
        if any(f"{kind if kind == 'actor' else 'run'}/{name}" in member.serves for member in members):
            return
        served = sorted({other.partition("/")[2] for member in members for other in member.serves})
        there = f"hosts are running that serve {', '.join(served)}" if served else "no host is running here"
        places = ", ".join(dict.fromkeys(str(self.app.settings.url_for(p)[0]) for p in ("coordination", "queue")))
        error = UnknownActorError if kind == "actor" else UnknownWorkflowError
        raise error(
            f"no host serves {name}; start one with: loom run MODULE:APP (for example loom run bank:app). {there} "
            f"({places})", **{"actor" if kind == "actor" else "workflow": name},
        )  # fmt: skip


@asynccontextmanager
async def open_session(
    app: str | None = None, url: str | None = None, toml: str | None = None, *, create: bool = False
) -> AsyncIterator[Session]:
    """Open the stores, close them at the end. Stores that are not there are made only where ``create`` says so."""
    loom = make_app(app, url, toml)
    async with loom.ports(create=create) as ports:
        session = Session(loom, ports)
        await session.pending.start()
        yield session


def told(error: Exception) -> LoomError:
    """What a handler or a run has raised, as an error with a code: here its own type means nothing."""
    if isinstance(error, LoomError):
        return error
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    return RemoteError(f"{name}: {error}" if str(error) else name, type_name=name)
