"""Loom's own plugin packages by the schemes that they bring, so that an error can say what to install."""

from __future__ import annotations

import msgspec

from .spec import Durability, PortName, Reach

__all__ = ["KNOWN_PACKAGES", "KnownPackage", "package_for"]


class KnownPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A package that is not necessarily installed: what it would serve, and how far that would carry.

    ``scheme`` is the one to suggest; ``also`` are others that it brings. ``ports`` can be empty for packages whose
    ports arrive in a later release.
    """

    distribution: str
    scheme: str
    also: tuple[str, ...] = ()
    ports: tuple[PortName, ...] = ()
    durability: Durability
    reach: Reach = Reach.NETWORK


KNOWN_PACKAGES: tuple[KnownPackage, ...] = (
    KnownPackage(
        distribution="loom-redis",
        scheme="redis",
        also=("rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "bullmq"),
        ports=("journal", "queue", "locks", "documents", "state", "idempotency", "coordination", "registry", "secrets"),
        durability=Durability.MACHINE,
    ),
    KnownPackage(
        distribution="loom-cosmos",
        scheme="cosmos",
        also=("cosmos+emulator",),
        ports=("journal", "locks", "documents", "state", "idempotency", "coordination", "registry", "secrets"),
        durability=Durability.REPLICATED,
    ),
    KnownPackage(
        distribution="loom-azure",
        scheme="azblob",
        ports=("blobs",),
        durability=Durability.REPLICATED,
    ),
    KnownPackage(
        distribution="loom-azure",
        scheme="keyvault",
        ports=("secrets",),
        durability=Durability.REPLICATED,
    ),
    KnownPackage(
        distribution="loom-tlsnotary",
        scheme="tlsn",
        also=("tlsn+test", "tlsn+mock"),
        ports=("tlsnotary",),
        durability=Durability.NONE,
    ),
)


def package_for(scheme: str) -> str | None:
    """The package to install for ``scheme``, or None when no known one brings it."""
    for package in KNOWN_PACKAGES:
        if scheme == package.scheme or scheme in package.also:
            return package.distribution
    return None
