"""Running the suites on URLs, in this process, by a pytest that nothing of the surroundings configures."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ...errors import ConfigurationError, UnknownSchemeError
from ...plugins.registry import AdapterRegistry
from ...plugins.spec import PORTS, UNBACKED_PORTS, AdapterSpec, PortName
from ...plugins.urls import LoomURL
from .classes import MODULE, Subject, handed_over
from .collector import Collector
from .facts import judge
from .isolation import check_isolated
from .places import Places
from .report import ConformanceReport, PortReport, URLReport

__all__ = ["run_conformance"]

_SUITES = "loom.testing.suites"
_EMPTY = "[pytest]\n"
# Plugins and options that happen to be installed or set here would make two runs of one adapter differ.
_SURROUNDINGS = {"PYTEST_ADDOPTS": None, "PYTEST_PLUGINS": None, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def run_conformance(
    urls: Sequence[str],
    *,
    ports: Sequence[PortName] = (),
    real_time: bool = False,
    unit: float | None = None,
    registry: AdapterRegistry | None = None,
    progress: Callable[[int, int], None] = lambda finished, total: None,
) -> ConformanceReport:
    """Run the suite of every port that the URLs' schemes serve, or of those ``ports``, and judge what is declared.

    No test sees the data at the URLs; see ``Places``. Files and memory are tested by a clock that the tests move,
    unless ``real_time``; anything else by its own time, in which leases and delays of the tests last ``unit`` seconds
    (half a second; more for a store far away). ``progress`` is told how many tests of how many are finished.
    Raises ConfigurationError for a URL that cannot be read, or where nothing would keep the tests from the data at it,
    and UnknownSchemeError for a scheme that serves none of the ports. Not for use within a running event loop.
    """
    began = time.monotonic()
    registry = registry or AdapterRegistry()
    registry.load_all()
    parsed = [LoomURL.parse(url) for url in urls]
    places = [Places(url) for url in parsed]
    subjects = [
        [
            Subject(
                class_name=f"Test{spec.port.capitalize()}{number}",
                spec=spec,
                places=place,
                manual_clock=place.local and not real_time,
                unit=unit,
                registry=registry,
            )
            for spec in _served(registry, url, ports)
        ]
        for number, (url, place) in enumerate(zip(parsed, places, strict=True))
    ]
    everything = [subject for group in subjects for subject in group]
    for subject in everything:
        check_isolated(subject)
    collector = Collector(progress)
    _run_pytest(everything, collector)
    if collector.problems:
        raise ConfigurationError("the suites could not be collected: " + "\n".join(collector.problems))
    reports = [
        URLReport(url=str(url), place=place.description, ports=tuple(_port(subject, collector) for subject in group))
        for url, place, group in zip(parsed, places, subjects, strict=True)
    ]
    return ConformanceReport(urls=tuple(reports), seconds=round(time.monotonic() - began, 3))


def _served(registry: AdapterRegistry, url: LoomURL, ports: Sequence[PortName]) -> list[AdapterSpec]:
    specs = []
    for port in PORTS:
        if port in UNBACKED_PORTS or (ports and port not in ports):
            continue  # what keeps nothing has no data to try it on: its suite wants samples, from a test of its own
        try:
            specs.append(registry.spec(port, url.scheme))
        except UnknownSchemeError:
            if len(ports) == 1:
                raise
    if not specs:
        registry.spec(ports[0] if ports else PORTS[0], url.scheme)
    return specs


def _port(subject: Subject, collector: Collector) -> PortReport:
    spec, tested = subject.spec, collector.outcomes(subject.class_name)
    return PortReport(
        port=spec.port,
        adapter=spec.target,
        distribution=spec.distribution,
        maturity=spec.maturity,
        durability=spec.durability.name,
        reach=spec.reach.name,
        features=tuple(sorted(feature.value for feature in spec.features)),
        facts=judge(spec, tested),
        tests=tuple(outcome for _, outcome in tested),
        seconds=round(sum(outcome.seconds for _, outcome in tested), 3),
    )


def _run_pytest(subjects: Sequence[Subject], collector: Collector) -> None:
    with tempfile.TemporaryDirectory(prefix="loom-conformance-") as name, _surroundings(), handed_over(subjects):
        folder = Path(name)
        # A module of its own: pytest would take an earlier run's of the same name from sys.modules.
        module = folder / f"test_{secrets.token_hex(8)}.py"
        module.write_text(MODULE)
        (folder / "pytest.ini").write_text(_EMPTY)
        arguments = [
            str(module),
            f"--config-file={folder / 'pytest.ini'}",
            f"--rootdir={folder}",
            f"--basetemp={folder / 'data'}",
            "--import-mode=importlib",
            "--tb=short",
            "-pno:cacheprovider",
            "-Wignore",
            "-q",
        ]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = pytest.main(arguments, plugins=[collector, _Rewriting()])
        sys.modules.pop(module.stem, None)
        if code == pytest.ExitCode.INTERRUPTED and not collector.problems:
            raise KeyboardInterrupt
        if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            raise ConfigurationError(f"pytest could not run the suites:\n{printed.getvalue()}")


class _Rewriting:
    def pytest_configure(self) -> None:
        """Let failed assertions of the suites show their values, unless somebody has imported them before us."""
        with contextlib.suppress(pytest.PytestAssertRewriteWarning):
            pytest.register_assert_rewrite(_SUITES)


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _SURROUNDINGS}
    _set_variables(_SURROUNDINGS)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
