"""The plugin: declares the adapters of this package without importing a driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from loom.plugins import AdapterSpec, Durability, Feature, PortName, Reach, hookimpl

__all__ = ["loom_cli_commands", "loom_guard_rules", "loom_register_adapters"]

_ADAPTERS: dict[PortName, tuple[str, frozenset[Feature]]] = {
    "documents": ("loom_cosmos.documents:CosmosDocumentStore", frozenset({Feature.TTL})),
    "state": ("loom_cosmos.state:CosmosStateStore", frozenset()),
    "idempotency": ("loom_cosmos.idempotency:CosmosIdempotencyStore", frozenset()),
    "registry": ("loom_cosmos.registry:CosmosActorRegistry", frozenset()),
    "secrets": ("loom_cosmos.secrets:CosmosSecretsStore", frozenset({Feature.SOFT_DELETE})),
    "journal": ("loom_cosmos.journal:CosmosJournalStore", frozenset({Feature.FENCING})),
    "locks": ("loom_cosmos.lock:CosmosLockManager", frozenset({Feature.FENCING})),
}


@hookimpl
def loom_register_adapters() -> Iterable[AdapterSpec]:
    """Journal, locks, documents and what stands on them, for accounts and for emulators on this machine."""
    return _specs()


@hookimpl
def loom_guard_rules() -> Iterable[Any]:
    """Rules that look at the live account; the driver is imported when one finds something of ours opened."""
    from .guard import cosmos_rules

    return cosmos_rules()


@hookimpl
def loom_cli_commands(app: Any) -> None:
    """``loom cosmos init``; the driver is imported when it runs."""
    from .commands import commands

    app.add_typer(commands, name="cosmos", rich_help_panel="Set up")


def _specs() -> Iterator[AdapterSpec]:
    for scheme in ("cosmos", "cosmos+emulator"):
        for port, (target, features) in _ADAPTERS.items():
            yield AdapterSpec(
                port=port,
                scheme=scheme,
                target=target,
                # An emulator keeps what it has as long as it likes; it is for tests and development.
                durability=Durability.REPLICATED if scheme == "cosmos" else Durability.PROCESS,
                reach=Reach.NETWORK if scheme == "cosmos" else Reach.HOST,
                features=features,
                maturity="experimental",
                distribution="loom-cosmos",
                summary="an Azure Cosmos DB account for NoSQL; a write is acknowledged by a majority of four replicas",
            )
