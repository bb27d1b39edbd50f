"""A conformance report for people."""

from __future__ import annotations

from collections.abc import Iterator

from .report import ConformanceReport, Fact, PortReport, Status

__all__ = ["text_lines"]


def text_lines(report: ConformanceReport) -> Iterator[tuple[str, Status | None]]:
    """The lines of the report, each with the status that it tells of, for whoever colours them."""
    for url in report.urls:
        yield f"{url.url}  ({url.place})", None
        for port in url.ports:
            yield "", None
            yield f"  {port.port}: {port.adapter} ({port.distribution}, {port.maturity}), {port.seconds:.1f} s", None
            for fact in port.facts:
                yield f"    {fact.status.value:<10}  {fact.name:<20}  {_counts(fact)}".rstrip(), fact.status
            yield from _failures(port)
        yield "", None
    yield _summary(report), None if report.ok else Status.BROKEN


def _counts(fact: Fact) -> str:
    if fact.status is Status.UNDECLARED:
        return f"{fact.skipped} skipped" if fact.skipped else ""
    if fact.status is Status.UNTESTED:
        return f"none of its {fact.skipped} tests could run" if fact.skipped else "the suite has no test of it"
    parts = [f"{fact.passed} passed"]
    if fact.failed:
        parts.insert(0, f"{fact.failed} failed")
    if fact.skipped:
        parts.append(f"{fact.skipped} skipped")
    return ", ".join(parts)


def _failures(port: PortReport) -> Iterator[tuple[str, Status | None]]:
    for test in port.tests:
        if test.outcome == "failed":
            yield f"    {test.name}:", Status.BROKEN
            for line in test.reason.splitlines():
                yield f"      {line}".rstrip(), None


def _summary(report: ConformanceReport) -> str:
    ports = [port for url in report.urls for port in url.ports]
    statuses = [fact.status for port in ports for fact in port.facts]
    counts = ", ".join(f"{statuses.count(status)} {status.value}" for status in Status if status in statuses)
    tests = sum(test.outcome != "skipped" for port in ports for test in port.tests)
    return f"{len(ports)} adapters, {tests} tests in {report.seconds:.1f} s: facts {counts}"
