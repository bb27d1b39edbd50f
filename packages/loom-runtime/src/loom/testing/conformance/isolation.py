"""No test before it is sure that the adapter will not write where the URL points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ...errors import ConfigurationError
from ...plugins.derived import is_derived
from ...plugins.spec import Durability
from ...plugins.urls import AdapterContext, LoomURL
from .classes import Subject
from .places import NAMESPACE

__all__ = ["check_isolated"]


_NO_OPTION = "loom-conformance-no-option"


class _Query(dict[str, str]):
    """The query of a URL, which notes whether it is asked for the namespace by its name."""

    asked = False

    def __getitem__(self, key: str) -> str:
        self.asked |= key == NAMESPACE
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked |= key == NAMESPACE
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked |= key == NAMESPACE
        return super().get(key, default)


def check_isolated(subject: Subject) -> None:
    """Raise ConfigurationError when nothing would keep the tests from the data at the URL.

    That is so where an adapter keeps data, its scheme is not one of ours, the URL names neither ``{folder}`` nor
    ``{namespace}``, and ``from_url`` neither asks for the option ``namespace`` by its name nor refuses options that it
    does not know. Building an adapter does no I/O.
    """
    if not subject.places.rests_on_namespace or subject.spec.durability is Durability.NONE:
        return
    url = LoomURL.parse(subject.places.fresh(Path()))
    query = _Query(url.query)
    subject.registry.open(subject.spec.port, msgspec.structs.replace(url, query=query), AdapterContext())
    if not query.asked and not _refuses_unknown(subject, url):
        what = "the documents beneath it" if is_derived(subject.spec) else subject.spec.target
        raise ConfigurationError(
            f"the tests of {subject.spec.port} would write where the URL points, because {what} does not look at its "
            f"option ?{NAMESPACE}=; write {{folder}} or {{namespace}} into the URL where a path or a name of each "
            f"test's own belongs, for example {subject.spec.scheme}:///{{folder}}/test.db or "
            f"{subject.spec.scheme}://host?prefix={{namespace}}",
            port=subject.spec.port,
            target=subject.spec.target,
        )


def _refuses_unknown(subject: Subject, url: LoomURL) -> bool:
    """Whether the adapter refuses an option that it does not know: then it knows the one that it has just taken."""
    query = {**url.query, _NO_OPTION: ""}
    try:
        subject.registry.open(subject.spec.port, msgspec.structs.replace(url, query=query), AdapterContext())
    except ConfigurationError:
        return True
    return False
