"""Finding plugins by their installed metadata, importing none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from .hookspecs import GROUP

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["FoundPlugin", "find_plugins", "import_name_owners"]


class _Load(Protocol):
    def __call__(self) -> Any: ...


class FoundPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """An entry point of the group: ``load`` imports it. ``unreadable`` says why there is none to load."""

    name: str
    value: str
    distribution: str
    version: str
    load: _Load
    unreadable: str = ""


def find_plugins(distributions: Callable[[], Iterable[Distribution]] | None = None) -> list[FoundPlugin]:
    """Every entry point of ``loom.plugins`` of every installed distribution, in the order of their names.

    One distribution with unreadable metadata becomes one plugin that cannot be loaded; the others are found all the
    same. Where a distribution is installed twice, the first on ``sys.path`` counts, as it does for imports.
    """
    if distributions is None:
        from importlib.metadata import distributions as installed  # costs more than all the rest of loom.plugins

        distributions = installed
    found: dict[tuple[str, str], FoundPlugin] = {}
    owners: dict[str, int] = {}
    for position, distribution in enumerate(distributions()):
        for plugin in _plugins_of(distribution):
            # "Loom_Redis" and "loom-redis" are one distribution
            normalized = re.sub(r"[-_.]+", "-", plugin.distribution).lower()
            if owners.setdefault(normalized, position) == position:
                found[normalized, plugin.name] = plugin
    return [found[key] for key in sorted(found)]


def import_name_owners(name: str = "loom") -> list[str]:
    """The distributions that install something under the import name ``name``; more than one is a clash.

    Reads the file lists of everything installed: for ``loom doctor``, not for start-up.
    """
    from importlib.metadata import packages_distributions

    return sorted(set(packages_distributions().get(name, ())))


def _plugins_of(distribution: Distribution) -> Iterator[FoundPlugin]:
    try:
        text = distribution.read_text("entry_points.txt")
        # Parsing is what costs, and almost no distribution is a plugin of Loom.
        if not text or GROUP not in text:
            return
        name, version = _identity(distribution)
    except Exception:  # unreadable before it is known to be a plugin of ours: not our business
        return
    try:
        points: list[EntryPoint] = [point for point in distribution.entry_points if point.group == GROUP]
    except Exception as error:
        reason = f"its entry_points.txt cannot be read: {error}"
        yield FoundPlugin(name=name, value="", distribution=name, version=version, load=_nothing, unreadable=reason)
        return
    for point in points:
        yield FoundPlugin(name=point.name, value=point.value, distribution=name, version=version, load=point.load)


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Name and version by two searches: the full parser takes a millisecond where there is a long description."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    name = re.search(r"^Name:[ \t]*(\S+)", text, re.MULTILINE)
    version = re.search(r"^Version:[ \t]*(\S+)", text, re.MULTILINE)
    return (name[1] if name else "a distribution without a name"), (version[1] if version else "")


def _nothing() -> Any:
    raise ImportError("unreadable metadata")
