"""Which ports can be built over a DocumentStore, and what such an adapter may promise."""

from __future__ import annotations

from .spec import AdapterSpec, Feature, PortName

__all__ = ["DERIVED_PORTS", "derive_spec", "is_derived"]

DERIVED_PORTS: dict[PortName, str] = {
    "state": "loom.adapters.derived.state:DocumentStateStore",
    "idempotency": "loom.adapters.derived.idempotency:DocumentIdempotencyStore",
    "coordination": "loom.adapters.derived.coordination:DocumentCoordination",
    "registry": "loom.adapters.derived.registry:DocumentActorRegistry",
    "secrets": "loom.adapters.derived.secrets:DocumentSecretsStore",
}
"""The ports that any DocumentStore brings, with the class that makes each of it."""

_OWN: dict[PortName, frozenset[Feature]] = {
    "coordination": frozenset({Feature.TTL}),
    "secrets": frozenset({Feature.SOFT_DELETE}),
}
"""What the classes do themselves, whatever the documents do: members live by their heartbeats."""


def derive_spec(port: PortName, documents: AdapterSpec) -> AdapterSpec:
    """The spec of ``port`` over ``documents``: it can promise what the documents promise, and what its class adds.

    Raises KeyError for a port that is not in ``DERIVED_PORTS``.
    """
    return AdapterSpec(
        port=port,
        scheme=documents.scheme,
        target=DERIVED_PORTS[port],
        durability=documents.durability,
        reach=documents.reach,
        features=documents.features & {Feature.TEST_ONLY} | _OWN.get(port, frozenset()),
        api_version=documents.api_version,
        maturity=documents.maturity,
        distribution=documents.distribution,
        summary=f"built over the documents of {documents.scheme}://",
    )


def is_derived(spec: AdapterSpec) -> bool:
    """Whether the adapter is one that this package builds over a DocumentStore."""
    return DERIVED_PORTS.get(spec.port) == spec.target
