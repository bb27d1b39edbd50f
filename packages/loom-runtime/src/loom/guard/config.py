"""GuardConfig: what the rules look at. Specs, URLs and instances, and the opened adapters where there are some."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

import msgspec

from ..environment import Environment
from ..errors import ConfigurationError
from ..plugins import PORTS, AdapterRegistry, AdapterSpec, LoomURL, PortName
from ..plugins.derived import DERIVED_PORTS, derive_spec
from ..ports import Port
from ..settings import Settings
from .mounts import read_mounts

__all__ = ["DURABLE_PORTS", "REQUIRED_PORTS", "GuardConfig", "PortConfig", "guard_config"]

DURABLE_PORTS: frozenset[PortName] = frozenset(
    {"journal", "queue", "locks", "documents", "blobs", "state", "idempotency", "coordination", "secrets"}
)
"""Ports that must not forget. Locks and coordination are among them because the journal refuses the lower fences that
they would hand out after a restart. The registry is not: hosts fill it again by their heartbeats."""

REQUIRED_PORTS: frozenset[PortName] = frozenset({"journal", "queue", "documents", "coordination"})
"""Ports without which no host runs; the others are needed only by those who use them."""


class PortConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How one port is served: by an instance handed in, or else by a URL.

    ``source`` says who chose it. ``spec`` is None where nothing is declared of the adapter; ``problem`` then says why.
    """

    port: PortName
    source: str
    url: LoomURL | None = None
    instance: Port | None = None
    spec: AdapterSpec | None = None
    problem: str = ""

    @property
    def shown(self) -> str:
        """The URL without its credentials, or the class of the instance."""
        return type(self.instance).__qualname__ if self.instance is not None else str(self.url)


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration.

    ``hosts`` is how many machines share it, this one included. ``adapters`` are the opened adapters by port, for rules
    that ask the backend itself; empty when nothing was opened. ``installed`` are the specs that could be used instead.
    """

    ports: Mapping[PortName, PortConfig]
    environment: Environment = "production"
    hosts: int = 1
    adapters: Mapping[PortName, Port] = {}
    installed: tuple[AdapterSpec, ...] = ()
    mounts: Callable[[], str | None] = read_mounts
    environ: Mapping[str, str] = os.environ

    def served(self) -> list[tuple[PortConfig, AdapterSpec]]:
        """The ports whose adapters have declared facts, in the order of reporting."""
        found = (self.ports[port] for port in PORTS if port in self.ports)
        return [(config, config.spec) for config in found if config.spec is not None]


def guard_config(
    settings: Settings,
    registry: AdapterRegistry,
    *,
    instances: Mapping[PortName, Port] | None = None,
    adapters: Mapping[PortName, Port] | None = None,
    hosts: int = 1,
    mounts: Callable[[], str | None] = read_mounts,
    environ: Mapping[str, str] = os.environ,
) -> GuardConfig:
    """The configuration that ``settings`` and the ``instances`` handed to the app make.

    Loads every plugin, so that remedies and conflicts are complete. Does not raise for a port that cannot be served:
    that is a finding. An instance says what it promises by an attribute ``adapter_spec`` (an AdapterSpec), or by being
    of a class that some plugin declares.
    """
    installed = tuple(registry.specs())
    ports: dict[PortName, PortConfig] = {}
    for port in PORTS:
        instance = (instances or {}).get(port)
        if instance is not None:
            spec = spec_of_instance(port, instance, installed)
            problem = "" if spec is not None else f"{type(instance).__qualname__} declares neither durability nor reach"
            ports[port] = PortConfig(
                port=port, source=f"argument {port}", instance=instance, spec=spec, problem=problem
            )
            continue
        url, source = settings.url_for(port)
        try:
            spec, problem = registry.spec(port, url.scheme), ""
        except ConfigurationError as error:
            spec, problem = None, str(error)
        ports[port] = PortConfig(port=port, source=str(source), url=url, spec=spec, problem=problem)
    return GuardConfig(
        ports=ports,
        environment=settings.environment,
        hosts=hosts,
        adapters={**(instances or {}), **(adapters or {})},
        installed=installed,
        mounts=mounts,
        environ=environ,
    )


def spec_of_instance(port: PortName, instance: Port, installed: Iterable[AdapterSpec]) -> AdapterSpec | None:
    """What is declared of an instance: by itself, by its class or a base of it, or by the documents below it."""
    own = getattr(instance, "adapter_spec", None)
    if isinstance(own, AdapterSpec):
        return own
    specs = list(installed)
    for base in type(instance).__mro__:
        target = f"{base.__module__}:{base.__qualname__}"
        if target == DERIVED_PORTS.get(port):
            documents = _documents_of(instance)
            below = spec_of_instance("documents", documents, specs) if documents is not None else None
            return derive_spec(port, below) if below is not None else None
        for spec in specs:
            if spec.port == port and spec.target == target:
                return spec
    return None


def _documents_of(instance: Port) -> Port | None:
    found = getattr(instance, "documents", None) or getattr(instance, "_documents", None)
    return found if isinstance(found, Port) else None
