"""The conformance suites on any URL, and a report of what they prove: what ``loom conformance`` runs."""

from .report import ConformanceReport, Fact, PortReport, Status, TestOutcome, URLReport
from .run import run_conformance

__all__ = ["ConformanceReport", "Fact", "PortReport", "Status", "TestOutcome", "URLReport", "run_conformance"]
