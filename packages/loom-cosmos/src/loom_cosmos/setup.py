"""Setting up a database: what it lacks, in steps that can be shown before they are taken, and taken again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import msgspec

from loom.errors import ConfigurationError

from .client import Cosmos
from .containers import CONTAINERS, ContainerSpec, extend
from .schema import MIGRATIONS, SCHEMA_VERSION, Migration, refusal, state_schema, stated_schema

__all__ = ["Step", "plan"]


class Step(msgspec.Struct, frozen=True):
    """Something to do: in words, and as a function. ``command`` does the same for who may not, where there is one."""

    what: str
    run: Callable[[], Awaitable[None]]
    command: str = ""


async def plan(
    cosmos: Cosmos,
    *,
    migrate: bool = False,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    version: int = SCHEMA_VERSION,
    containers: Iterable[ContainerSpec] = CONTAINERS,
) -> list[Step]:
    """What the database lacks, in the order in which to do it; empty when it is set up. Changes nothing.

    ``cosmos`` has been started. Raises ConfigurationError for a container that cannot be used as it is: of another
    partition key, of a newer layout, or of an older one without ``migrate``.
    """
    steps: list[Step] = []
    if not await cosmos.has_database():
        steps.append(
            Step(f"create the database {cosmos.options.database!r}", cosmos.make_database, cosmos.az_database())
        )
    for spec in containers:
        properties = await cosmos.properties(spec)
        if properties is None:
            what = f"create the container {spec.name!r}, partitioned by {spec.partition_path}"
            steps.append(Step(what, partial(cosmos.use, spec), cosmos.az_container(spec)))
            continue
        if extend(properties.get("indexingPolicy", {}), spec.policy) is not None:
            steps.append(Step(f"add indexes to the container {spec.name!r}", partial(cosmos.index, spec, spec.policy)))
        stated = await stated_schema(cosmos, spec)
        if stated is None:
            run = partial(_state, cosmos, spec, version)
            steps.append(Step(f"state version {version} in the container {spec.name!r}", run))
            continue
        if stated.version > version or (stated.version < version and not migrate):
            raise refusal(cosmos, spec, stated.version)
        for old in range(stated.version, version):
            run = partial(_migrate, cosmos, spec, old, migrations[old])
            steps.append(Step(f"migrate the container {spec.name!r} from version {old} to {old + 1}", run))
    return steps


async def _state(cosmos: Cosmos, spec: ContainerSpec, version: int) -> None:
    await state_schema(cosmos, spec, version, None)  # if somebody was first, the next start looks at what they stated


async def _migrate(cosmos: Cosmos, spec: ContainerSpec, old: int, migration: Migration) -> None:
    """One migration, and then its version in place of the one before: never over what another has stated."""
    stated = await stated_schema(cosmos, spec)
    if stated is not None and stated.version > old:
        return  # another has done it meanwhile
    if stated is None or stated.version < old:
        raise ConfigurationError(f"the container {spec.name!r} is no longer of version {old}; look again")
    await migration(cosmos, spec)
    await state_schema(cosmos, spec, old + 1, stated)
