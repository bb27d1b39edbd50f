"""The three containers of a database, and what each of them indexes: what is queried, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .names import field_property

__all__ = ["CONTAINERS", "DOCUMENTS", "JOURNAL", "LOCKS", "ContainerSpec", "Fields", "document_policy", "extend"]


Policy = dict[str, Any]
Fields = tuple[str, ...]


def _policy(*paths: str) -> Policy:
    return {
        "indexingMode": "consistent",
        "automatic": True,
        "includedPaths": [{"path": path} for path in paths],
        "excludedPaths": [{"path": "/*"}],
    }


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is created. ``ttl`` says whether items of it may expire."""

    name: str
    policy: Policy
    ttl: bool = False

    @property
    def partition_path(self) -> str:
        """The path of the partition key, the same in all."""
        return "/pk"


DOCUMENTS = ContainerSpec(name="documents", policy=_policy("/c/?", "/o/?", "/exp/?"), ttl=True)
"""All collections. What each declares as an index is added when it is ensured."""

JOURNAL = ContainerSpec(name="journal", policy=_policy("/n/?", "/ns/?", "/s/?"))
LOCKS = ContainerSpec(name="locks", policy=_policy("/none/?"))

CONTAINERS = (DOCUMENTS, JOURNAL, LOCKS)


def document_policy(indexes: Iterable[Fields]) -> Policy:
    """What a collection's indexes ask for: a path for each field, and for each beginning of an index the composite
    index by which a query on it is ordered.
    """
    paths: dict[str, None] = {}
    composites: dict[tuple[str, ...], None] = {}
    for index in indexes:
        properties = [field_property(field) for field in index]
        paths.update(dict.fromkeys(f"/{name}/?" for name in properties))
        for length in range(1, len(properties) + 1):
            composites[(*properties[:length], "o")] = None
    return {
        "includedPaths": [{"path": path} for path in paths],
        "compositeIndexes": [[{"path": f"/{name}", "order": "ascending"} for name in names] for names in composites],
    }


def extend(policy: Policy, wanted: Policy) -> Policy | None:
    """``policy`` with what it lacks of ``wanted``, or None when it lacks nothing. Order of paths aside, never less."""
    have = {each["path"] for each in policy.get("includedPaths", ())}
    if "/*" in have:
        have |= {each["path"] for each in wanted["includedPaths"]}
    known = {_shape(composite) for composite in policy.get("compositeIndexes", ())}
    paths = [each for each in wanted["includedPaths"] if each["path"] not in have]
    composites = [each for each in wanted.get("compositeIndexes", ()) if _shape(each) not in known]
    if not paths and not composites:
        return None
    return {
        **policy,
        "includedPaths": [*policy.get("includedPaths", ()), *paths],
        "compositeIndexes": [*policy.get("compositeIndexes", ()), *composites],
    }


def _shape(composite: Iterable[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((each["path"], each.get("order", "ascending")) for each in composite)
