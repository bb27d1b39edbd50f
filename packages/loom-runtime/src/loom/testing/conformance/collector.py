"""The pytest plugin of a conformance run: it notes what became of each test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ..suites.base import Needs
from .report import TestOutcome

__all__ = ["Collector"]


class _Test(msgspec.Struct):
    class_name: str
    name: str
    needs: Needs
    seconds: float = 0.0
    failed: bool = False
    skipped: bool = False
    reason: str = ""


class Collector:
    """Collects outcomes by the name of the class; ``progress`` hears of each finished test."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress
        self._tests: dict[str, _Test] = {}
        self._finished = 0
        self.problems: list[str] = []
        """What kept pytest from collecting the tests at all."""

    def outcomes(self, class_name: str) -> Sequence[tuple[Needs, TestOutcome]]:
        """What became of the tests of the class, in the order in which they ran."""
        return [(test.needs, _outcome(test)) for test in self._tests.values() if test.class_name == class_name]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be imported."""
        if report.failed:
            self.problems.append(report.longreprtext)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which tests there are."""
        for item in session.items:
            function = getattr(item, "function", None)
            needs: Any = getattr(function, "needs", Needs())
            name = item.parent.name if item.parent is not None else ""
            self._tests[item.nodeid] = _Test(class_name=name, name=item.name, needs=needs)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of a phase of a test: of its three the worst counts."""
        test = self._tests[report.nodeid]
        test.seconds += report.duration
        if report.failed:
            test.failed = True
            test.reason = _from_the_test_on(report.longreprtext, test.name)
        elif report.skipped and not test.failed:
            test.skipped = True
            reason = report.longrepr
            test.reason = str(reason[2]).removeprefix("Skipped: ") if isinstance(reason, tuple) else str(reason)
        if report.when == "teardown":
            self._finished += 1
            self._progress(self._finished, len(self._tests))


def _from_the_test_on(traceback: str, name: str) -> str:
    """The traceback without what ran the test."""
    lines = traceback.splitlines()
    start = next((n for n, line in enumerate(lines) if line.endswith(f": in {name}")), 0)
    return "\n".join(lines[start:])


def _outcome(test: _Test) -> TestOutcome:
    name = test.name.removeprefix("test_")
    seconds = round(test.seconds, 4)
    if test.failed:
        return TestOutcome(name=name, outcome="failed", seconds=seconds, reason=test.reason)
    if test.skipped:
        return TestOutcome(name=name, outcome="skipped", seconds=seconds, reason=test.reason)
    return TestOutcome(name=name, outcome="passed", seconds=seconds)
