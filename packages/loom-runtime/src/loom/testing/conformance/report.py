"""What a conformance run found: for each URL its ports, for each port its facts and the tests that judge them."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from ...plugins.spec import PortName

__all__ = ["ConformanceReport", "Fact", "PortReport", "Status", "TestOutcome", "URLReport"]


class Status(enum.StrEnum):
    """What the tests say of a fact."""

    PROVEN = "proven"  # declared; every test of it that could run has passed
    BROKEN = "broken"  # a test of it has failed
    UNDECLARED = "undeclared"  # so it was skipped
    UNTESTED = "untested"  # declared; but no test of it exists or could run


class TestOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One test. ``reason`` says why it was skipped, or is the report of its failure."""

    __test__ = False  # pytest: not a class of tests

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float
    reason: str = ""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something an adapter promises: ``contract`` (what every adapter of the port must do), or what it declared.

    ``passed``, ``failed`` and ``skipped`` count its tests; a test of several facts counts in each.
    """

    name: str
    status: Status
    passed: int
    failed: int
    skipped: int


class PortReport(msgspec.Struct, frozen=True, kw_only=True):
    """One port of a URL, and the adapter that serves it. ``seconds`` is the time that its tests took."""

    port: PortName
    adapter: str
    distribution: str
    maturity: str
    durability: str
    reach: str
    features: tuple[str, ...]
    facts: tuple[Fact, ...]
    tests: tuple[TestOutcome, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing that it promises is broken."""
        return all(fact.status is not Status.BROKEN for fact in self.facts)


class URLReport(msgspec.Struct, frozen=True, kw_only=True):
    """One URL, shown without its credentials; ``place`` says where the tests put their data instead of there."""

    url: str
    place: str
    ports: tuple[PortReport, ...]


class ConformanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    urls: tuple[URLReport, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return all(port.ok for url in self.urls for port in url.ports)
