"""The version of the layout, which every container states in a document of its own, and how an older one is brought up.

A layout says what items look like; indexes are not part of it, they only ever grow. Hosts open their version and no
other: a newer one they might damage, an older one is migrated first, with the hosts stopped, by ``loom cosmos init``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from loom.errors import ConfigurationError

from .containers import ContainerSpec
from .failures import Refused

if TYPE_CHECKING:
    from .client import Cosmos, Item

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "Migration", "Stated", "check_schema", "state_schema", "stated_schema"]

SCHEMA_VERSION = 1
"""What this release reads and writes."""

_PLACE = "loom-schema"  # no partition key of ours: those have colons

Migration = Callable[["Cosmos", ContainerSpec], Awaitable[None]]
"""Brings a container's items up by one version. It may be broken off and begin again, and run twice at once."""

MIGRATIONS: Mapping[int, Migration] = {}
"""By the version from which each leads to the next. There has been one version so far, so there is none."""


class Stated(msgspec.Struct, frozen=True):
    """What a container states: its version, and the ETag of the document that says so."""

    version: int
    etag: str


async def stated_schema(cosmos: Cosmos, spec: ContainerSpec) -> Stated | None:
    """What the container states; None for one that ``az`` has made, or a release that stated nothing: version 1."""
    item = await cosmos.read(spec, _PLACE, _PLACE)
    if item is None:
        return None
    try:
        return Stated(int(item["version"]), str(item["_etag"]))
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(
            f"Cosmos DB at {cosmos.options.where}: the document {_PLACE!r} in {spec.name!r} states no version; another "
            "program has changed it: restore the container to a moment before",
            container=spec.name,
        ) from None


async def state_schema(cosmos: Cosmos, spec: ContainerSpec, version: int, before: Stated | None) -> bool:
    """State a version in place of ``before``. False when somebody else has stated something meanwhile."""
    from .client import create, replace

    item: Item = {"id": _PLACE, "pk": _PLACE, "version": version}
    try:
        await cosmos.write(spec, _PLACE, [create(item) if before is None else replace(item, before.etag)])
    except Refused:
        return False
    return True


async def check_schema(cosmos: Cosmos, spec: ContainerSpec, *, create: bool) -> None:
    """See that the container has this release's layout; with ``create`` let it say so where it says nothing.

    Raises ConfigurationError for a newer layout, and for an older one.
    """
    stated = await stated_schema(cosmos, spec)
    if stated is None and create and not await state_schema(cosmos, spec, SCHEMA_VERSION, None):
        stated = await stated_schema(cosmos, spec)
    if stated is not None and stated.version != SCHEMA_VERSION:
        raise refusal(cosmos, spec, stated.version)


def refusal(cosmos: Cosmos, spec: ContainerSpec, version: int) -> ConfigurationError:
    """What is wrong with a container of another version."""
    remedy = (
        "upgrade loom-cosmos on this machine"
        if version > SCHEMA_VERSION
        else "stop all hosts, make a backup, and run `loom cosmos init --migrate` once"
    )
    return ConfigurationError(
        f"Cosmos DB at {cosmos.options.where}: the container {spec.name!r} has the layout of version {version}, and "
        f"this loom-cosmos knows version {SCHEMA_VERSION}; {remedy}",
        container=spec.name,
        version=version,
    )
