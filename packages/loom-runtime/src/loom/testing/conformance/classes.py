"""Suites for the ports of URLs, made where pytest collects them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from ...plugins.derived import is_derived
from ...plugins.registry import AdapterRegistry
from ...plugins.spec import AdapterSpec, PortName, Reach
from ...plugins.urls import AdapterContext
from .places import Places

__all__ = ["MODULE", "Subject", "handed_over", "make_classes"]

MODULE = "from loom.testing.conformance.classes import make_classes\n\nglobals().update(make_classes())\n"
"""The test module of a conformance run."""

_SUITES: dict[PortName, str] = {
    "journal": "journal:JournalStoreSuite",
    "queue": "queue:MessageQueueSuite",
    "locks": "locks:LockManagerSuite",
    "documents": "documents:DocumentStoreSuite",
    "blobs": "blobs:BlobStoreSuite",
    "state": "state:StateStoreSuite",
    "idempotency": "idempotency:IdempotencyStoreSuite",
    "coordination": "coordination:CoordinationSuite",
    "registry": "registry:ActorRegistrySuite",
    "secrets": "secrets:SecretsStoreSuite",
}


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter under test. ``class_name`` is unique in a run; with ``manual_clock`` the tests let time pass.

    ``unit`` is the seconds of a lease by real time, as in ``Harness``.
    """

    class_name: str
    spec: AdapterSpec
    places: Places
    manual_clock: bool
    unit: float | None = None
    registry: AdapterRegistry


_subjects: ContextVar[Sequence[Subject]] = ContextVar("_subjects")


@contextmanager
def handed_over(subjects: Sequence[Subject]) -> Iterator[None]:
    """Within this, a module made of ``MODULE`` holds the suites of these subjects."""
    token = _subjects.set(subjects)
    try:
        yield
    finally:
        _subjects.reset(token)


def make_classes() -> dict[str, type[Any]]:
    """A suite for each subject handed over. The suites are imported now, when pytest rewrites their assertions."""
    return {subject.class_name: _make_class(subject) for subject in _subjects.get()}


def _make_class(subject: Subject) -> type[Any]:
    module, _, name = _SUITES[subject.spec.port].partition(":")
    suite = getattr(importlib.import_module(f"loom.testing.suites.{module}"), name)

    def harness(self: Any, tmp_path: Path) -> Any:
        return _harness(subject, tmp_path)

    return type(subject.class_name, (suite,), {"spec": subject.spec, "harness": harness, "__module__": __name__})


def _harness(subject: Subject, folder: Path) -> Any:
    from ..clock import ManualClock
    from ..suites.base import Harness

    spec, url = subject.spec, subject.places.fresh(folder)
    clock = ManualClock() if subject.manual_clock else None
    # Within a process the clients find each other's data in their context; elsewhere each has a connection of its own.
    shared = AdapterContext(clock) if spec.reach is Reach.PROCESS else None
    connect: Callable[[], Any] = lambda: subject.registry.open(spec.port, url, shared or AdapterContext(clock))  # noqa: E731
    # Over documents members live by heartbeats, and another process beats by the time that really passes.
    alone = shared is not None or (is_derived(spec) and clock is not None)
    return Harness(connect, clock=clock, url=None if alone else url, unit=None if clock else subject.unit)
