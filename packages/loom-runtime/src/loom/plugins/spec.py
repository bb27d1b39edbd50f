"""What a plugin declares of an adapter, without importing its driver."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

__all__ = ["API_VERSION", "PORTS", "UNBACKED_PORTS", "AdapterSpec", "Durability", "Feature", "PortName", "Reach"]

API_VERSION = 1
"""The version of the ports that this release speaks. A plugin built for another is refused by name."""

PortName = Literal[
    "journal", "queue", "locks", "documents", "blobs", "state", "idempotency", "coordination", "registry", "secrets",
    "tlsnotary",
]  # fmt: skip

PORTS: tuple[PortName, ...] = (
    "journal", "queue", "locks", "documents", "blobs", "state", "idempotency", "coordination", "registry", "secrets",
    "tlsnotary",
)  # fmt: skip
"""The ports of this release, in the order in which they are reported."""

UNBACKED_PORTS: frozenset[PortName] = frozenset({"tlsnotary"})
"""Ports that keep nothing and that no store serves: the general URL never means them. Their own URL chooses them."""


class Durability(enum.IntEnum):
    """The largest thing that may crash without taking an acknowledged write."""

    NONE = 0  # nothing: memory of the process
    PROCESS = 1
    MACHINE = 2
    REPLICATED = 3


class Reach(enum.IntEnum):
    """Who can share the adapter's data."""

    PROCESS = 1
    HOST = 2
    NETWORK = 3


class Feature(enum.StrEnum):
    """An optional part of a port's contract. Declared features are proven by the conformance suites."""

    TTL = "TTL"
    FENCING = "FENCING"
    ORDERED = "ORDERED"
    DELAYED = "DELAYED"
    PRIORITY = "PRIORITY"
    DIRECT = "DIRECT"
    ATOMIC_OUTBOX = "ATOMIC_OUTBOX"
    SIGNED_URLS = "SIGNED_URLS"
    SOFT_DELETE = "SOFT_DELETE"
    TEST_ONLY = "TEST_ONLY"


class AdapterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter for one port under one URL scheme.

    ``target`` is ``"package.module:Class"`` and is imported on first use. The class has a class method
    ``from_url(url: LoomURL, context: AdapterContext)`` that builds an adapter without doing I/O.
    ``distribution`` is the package that must be installed for it.
    """

    port: PortName
    scheme: str
    target: str
    durability: Durability
    reach: Reach
    features: frozenset[Feature] = frozenset()
    api_version: int = API_VERSION
    maturity: Literal["experimental", "beta", "stable"] = "beta"
    distribution: str = "loom-runtime"
    summary: str = ""
