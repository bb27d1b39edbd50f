"""The app: actors and workflows, and where their bytes live."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

import msgspec

from .__about__ import __version__
from .actor import Actor, ActorType
from .client import Client, RunHandle
from .clock import Clock, SystemClock
from .codec import PayloadCodec
from .errors import DefinitionError, NotRunningError
from .interceptors import Interceptor
from .plugins import AdapterContext, PortName
from .ports import CoordinationAdapter, DocumentStore, JournalStore, Member, MessageQueue, Port
from .resources import Resources
from .runtime.background import Background
from .runtime.host import Host
from .runtime.pending import PendingRecords
from .runtime.router import Router
from .secrets.client import SecretsClient
from .secrets.opening import client_of, names_secrets
from .secrets.redaction import RedactErrors, redacting
from .secrets.references import resolve_url
from .settings import RuntimeOptions, Settings, load_settings
from .sync import SyncApp
from .workflow import Workflow

if TYPE_CHECKING:
    from .plugins.registry import AdapterRegistry

__all__ = ["Loom"]

A = TypeVar("A", bound=Actor[Any])
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_RUNTIME_PORTS: tuple[PortName, ...] = ("journal", "queue", "documents", "coordination")


class Loom:
    """Actors, workflows and settings. ``async with app:`` hosts them; ``app.client()`` only calls.

    Making an app checks its definitions and does no I/O. URLs come from the arguments, else ``LOOM_URL`` and
    ``LOOM_<PORT>_URL``, else ``loom.toml``, else ``sqlite:///loom.db``.

    Args:
        actors: actor classes to host.
        workflows: workflows to host.
        url: where everything lives that ``urls`` does not place.
        urls: URLs by port: journal, queue, documents, coordination, …
        adapters: adapters by port, made by you; the app starts and closes them.
        env: development, test or production; see the production guard.
        options: sizes, limits and times; see RuntimeOptions.
        lifespan: an async context manager of the app, entered before the first turn; what it yields are resources.
        interceptors: code around calls, turns and steps; the first is outermost.
        payload_codecs: what wraps stored bytes; the first is applied first. Every host and client needs the same.
        clock: where time comes from; for tests.
    """

    def __init__(
        self,
        actors: Sequence[type[Actor[Any]]] = (),
        workflows: Sequence[Workflow[Any, Any]] = (),
        *,
        url: str | None = None,
        urls: Mapping[str, str] | None = None,
        adapters: Mapping[PortName, Port] | None = None,
        env: str | None = None,
        options: RuntimeOptions | Mapping[str, Any] | None = None,
        lifespan: Callable[[Loom], AbstractAsyncContextManager[Any]] | None = None,
        interceptors: Sequence[Interceptor] = (),
        payload_codecs: Sequence[PayloadCodec] = (),
        clock: Clock | None = None,
        toml: str | Path | None = None,
    ) -> None:
        self.actors = _by_name([ActorType.of(actor) for actor in actors], "actor")
        self.workflows = _by_name(list(workflows), "workflow")
        for workflow in workflows:
            if not isinstance(workflow, Workflow):
                raise DefinitionError(f"{workflow!r} is not a workflow; decorate it with @workflow")
            _ = workflow.signature
        self._settings_arguments = {"url": url, "urls": urls, "env": env, "options": options, "toml_path": toml}
        self._instances = dict(adapters or {})
        self._lifespan = lifespan
        self._interceptors = tuple(interceptors)
        self._codecs = tuple(payload_codecs)
        self._sealing: PayloadCodec | None = None
        self._clock = clock or SystemClock()
        self._settings: Settings | None = None
        self._secrets = client_of(lambda: self.settings, lambda: self.registry, instances=self._instances, clock=clock)
        self._secrets_users = 0
        self._resources = Resources({SecretsClient: lambda: self._secrets})
        self._host: Host | None = None
        self._client: Client | None = None
        self._stack: AsyncExitStack | None = None
        self._sync: SyncApp | None = None
        self._registry: AdapterRegistry | None = None

    @property
    def settings(self) -> Settings:
        """The resolved settings, read when first asked for. Raises ConfigurationError."""
        if self._settings is None:
            arguments: dict[str, Any] = self._settings_arguments
            self._settings = load_settings(**arguments)
        return self._settings

    @property
    def registry(self) -> AdapterRegistry:
        """Finds and opens adapters; made when first asked for."""
        if self._registry is None:
            from .plugins.registry import AdapterRegistry

            self._registry = AdapterRegistry()
        return self._registry

    @property
    def host(self) -> Host:
        """The running host. Raises NotRunningError."""
        if self._host is None:
            raise NotRunningError("the app is not running; use 'async with app:'")
        return self._host

    @property
    def payload_codecs(self) -> tuple[PayloadCodec, ...]:
        """What wraps stored bytes; the first is applied first, and sealing, if the settings ask for it, last."""
        if self.settings.seal == "off":
            return self._codecs
        if self._sealing is None:
            from .sealing.codec import SealingCodec

            self._sealing = SealingCodec(accept_plain=self.settings.seal == "new")
        return (*self._codecs, self._sealing)

    @property
    def instances(self) -> Mapping[PortName, Port]:
        """The adapters that were handed in."""
        return self._instances

    @property
    def secrets(self) -> SecretsClient:
        """The app's secrets, opened when one is asked for; in a turn it is ``ctx.resource(SecretsClient)``."""
        return self._secrets

    # -- calling -------------------------------------------------------------------------------------------------

    def actor(self, actor: type[A], key: str, *, idempotency_key: str | None = None) -> A:
        """A reference to an actor; see ``Client.actor``. Raises NotRunningError outside ``async with app:``."""
        return self.calls.actor(actor, key, idempotency_key=idempotency_key)

    def workflow(self, workflow: Workflow[P, R], run_id: str) -> RunHandle[P, R]:
        """A handle to a run; see ``Client.workflow``."""
        return self.calls.workflow(workflow, run_id)

    @property
    def calls(self) -> Client:
        """The client of the running app. Raises NotRunningError."""
        if self._client is None:
            raise NotRunningError(
                "the app is not running; use 'async with app:' to host, or 'async with app.client():' to call"
            )
        return self._client

    @asynccontextmanager
    async def ports(self, *, create: bool = True) -> AsyncIterator[Mapping[PortName, Port]]:
        """The adapters that the runtime uses, open: for tools that look at what is stored. Hosts nothing.

        Without ``create`` storage that does not exist is not made: StoreUnavailableError.
        """
        async with AsyncExitStack() as stack:
            yield await self._open(stack, hosting=False, create=create)

    @asynccontextmanager
    async def client(
        self, *, ports: Mapping[PortName, Port] | None = None, call_timeout: float | None = None
    ) -> AsyncIterator[Client]:
        """A client that never hosts: ``async with app.client() as client: await client.actor(Account, "alice").…``.

        ``ports`` are adapters that ``ports()`` has opened; they are left open. ``call_timeout`` (seconds) takes the
        place of the option of that name.
        """
        options = self.settings.options
        if call_timeout is not None:
            options = msgspec.structs.replace(options, call_timeout=call_timeout)
        async with AsyncExitStack() as stack:
            if ports is None:
                ports = await self._open(stack, hosting=False)
            background = Background()
            stack.push_async_callback(background.cancel)
            coordination = cast(CoordinationAdapter, ports["coordination"])
            shards = await coordination.shard_count(0) or options.shards
            router = Router(
                cast(MessageQueue, ports["queue"]), self._clock, background, f"client-{secrets.token_hex(8)}", shards,
                self.payload_codecs,
            )  # fmt: skip
            pending = PendingRecords(cast(DocumentStore, ports["documents"]), self._clock)
            await pending.start()
            client = Client(router, pending, options, self._clock, self._interceptors, lambda _: False)
            try:
                yield client
            finally:
                client._closed = True
                await router.close()

    @property
    def sync(self) -> SyncApp:
        """The app for code without an event loop: ``with app.sync as app: app.actor(Account, "alice").deposit(5)``."""
        if self._sync is None:
            self._sync = SyncApp(self)
        return self._sync

    # -- life ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise NotRunningError("the app is running already; one 'async with app:' at a time")
        self._stack = stack = AsyncExitStack()
        try:
            await self._start(stack)
        except BaseException:
            self._stack = self._host = self._client = None
            await stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def lifespan(self, asgi_app: Any = None) -> AsyncIterator[dict[str, Any]]:
        """Host while an ASGI app serves: ``FastAPI(lifespan=app.lifespan)``;
        handlers find it as ``request.state.loom``.
        """
        async with self:
            yield {"loom": self}

    def override(self, kind: type[T], replacement: Any) -> AbstractContextManager[None]:
        """Replace a resource in a test: ``with app.override(HttpClient, fake): …``."""
        return self._resources.override(kind, replacement)

    async def _start(self, stack: AsyncExitStack) -> None:
        stack.enter_context(redacting(self._secrets.redactor))
        ports = await self._open(stack, hosting=True)
        if self._lifespan is not None:
            self._resources.provide(await stack.enter_async_context(self._lifespan(self)))
        options = self.settings.options
        host = Host(
            journal=cast(JournalStore, ports["journal"]), queue=cast(MessageQueue, ports["queue"]),
            documents=cast(DocumentStore, ports["documents"]), member=self._member(),
            coordination=cast(CoordinationAdapter, ports["coordination"]), actors=self.actors, workflows=self.workflows,
            options=options, clock=self._clock, resources=self._resources, codecs=self.payload_codecs,
            interceptors=(RedactErrors(self._secrets.redactor), *self._interceptors)
            if names_secrets(self.settings, self._instances) else self._interceptors,
        )  # fmt: skip
        self._host = host
        self._client = Client(
            host.router, host.pending, options, self._clock, self._interceptors,
            host.serves,
        )  # fmt: skip
        stack.push_async_callback(self._stop, host)
        await host.start()
        await self._check_reach(cast(CoordinationAdapter, ports["coordination"]))
        self.registry.plugins.call("loom_runtime_started", app=self)

    async def _check_reach(self, coordination: CoordinationAdapter) -> None:
        """Refuse storage of one host to a fleet of several, now that it is known who is in it."""
        hosts = len({member.host for member in await coordination.members()})
        if hosts > 1:
            from .guard import check_production_config, collect_rules, enforce, guard_config

            config = guard_config(self.settings, self.registry, instances=self._instances, hosts=hosts)
            enforce(await check_production_config(config, collect_rules(self.registry.plugins)), self.settings)

    async def _stop(self, host: Host) -> None:
        self.registry.plugins.call("loom_runtime_stopping", app=self)
        client, self._client = self._client, None
        await host.stop()
        if client is not None:
            client._closed = True
        self._host = None

    async def _open(self, stack: AsyncExitStack, *, hosting: bool, create: bool = True) -> dict[PortName, Port]:
        settings = self.settings
        context = AdapterContext(self._clock, create=create)
        self._secrets_users += 1
        stack.push_async_callback(self._leave_secrets)
        ports: dict[PortName, Port] = {}
        for port in _RUNTIME_PORTS:
            instance = self._instances.get(port)
            if instance is None:
                url, source = settings.url_for(port)
                resolved = await resolve_url(url, self._secrets, where=str(source))
                instance = self.registry.open(port, resolved, context)
            ports[port] = instance
        # Only a host needs the guard; a client starts quicker without it.
        from .guard import check_production_config, collect_rules, enforce, guard_config

        rules = collect_rules(self.registry.plugins) if hosting else []
        if hosting:
            config = guard_config(settings, self.registry, instances=self._instances)
            enforce(await check_production_config(config, rules), settings)
        for adapter in ports.values():
            await adapter.start()
            stack.push_async_callback(adapter.close)
        if hosting and settings.environment == "production":
            opened = dict(ports)
            if names_secrets(settings, self._instances):
                opened["secrets"] = await self._secrets.opened()
            live = guard_config(settings, self.registry, instances=self._instances, adapters=opened)
            enforce(await check_production_config(live, rules), settings)
        return ports

    async def _leave_secrets(self) -> None:
        self._secrets_users -= 1
        if not self._secrets_users:
            await self._secrets.close()

    def _member(self) -> Member:
        return Member(
            id=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            serves=(*(f"actor/{name}" for name in self.actors), *(f"run/{name}" for name in self.workflows)),
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self._clock.now(),
        )


D = TypeVar("D", ActorType, Workflow[Any, Any])


def _by_name(definitions: list[D], what: str) -> dict[str, D]:
    found: dict[str, D] = {}
    for definition in definitions:
        if definition.name in found:
            raise DefinitionError(f"two {what}s are called {definition.name!r}; names are how journals find their code")
        found[definition.name] = definition
    return found
