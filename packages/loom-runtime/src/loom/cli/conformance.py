"""``loom conformance``: what adapters promise, proven or broken, on any URL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..plugins import PortName
    from ..testing.conformance import ConformanceReport

__all__ = ["conformance"]

_MISSING = "the conformance suites run on pytest and hypothesis: pip install 'loom-runtime[testing]'"


def conformance(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="The adapters to test, as in LOOM_URL.")],
    port: Annotated[
        list[str] | None, typer.Option("--port", metavar="PORT", help="Only this port; may be repeated.")
    ] = None,
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON; - prints it instead.")
    ] = None,
    junit: Annotated[str | None, typer.Option("--junit", metavar="FILE", help="Write it as JUnit XML.")] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Let real time pass, where a clock of the tests would do.")
    ] = False,
    unit: Annotated[
        float | None,
        typer.Option("--unit", metavar="SECONDS", min=0.01, help="How long leases last by real time (0.5)."),
    ] = None,
) -> None:
    """Run the conformance suites on URLs and report what each adapter declares: proven, broken, undeclared, untested.

    Nothing at the URLs is read or changed: files and memory are replaced by new ones, and for other schemes each test
    gets a ?namespace= of its own, or what you put into the URL: {folder}, a temporary one, or {namespace}, a name.
    Exit code 1 when something is broken.
    """
    _check_installed()
    from ..errors import ConfigurationError, UnknownSchemeError
    from ..testing.conformance import run_conformance
    from .output import Output

    ports = _ports(port or [])
    targets = [Path(name) for name in (json, junit) if name is not None and name != "-"]
    for target in targets:
        if not target.parent.is_dir():
            raise typer.BadParameter(f"{target}: there is no folder {target.parent}")
    out = Output(json=json == "-")
    try:
        with _Progress(shown=not out.json) as progress:
            report = run_conformance(urls, ports=ports, real_time=real_time, unit=unit, progress=progress.move)
    except (ConfigurationError, UnknownSchemeError) as error:
        raise typer.BadParameter(str(error)) from None
    _write(report, json, junit, out.json)
    if not out.json:
        _show(report)
    if not report.ok:
        raise typer.Exit(1)


def _check_installed() -> None:
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("pytest", "hypothesis")):
        typer.echo(_MISSING, err=True)
        raise typer.Exit(2)


def _ports(names: list[str]) -> list[PortName]:
    from ..plugins import PORTS

    found: list[PortName] = [port for port in PORTS if port in names]
    for name in names:
        if name not in PORTS:
            raise typer.BadParameter(f"there is no port {name!r}; there are {', '.join(PORTS)}")
    return found


def _write(report: ConformanceReport, json: str | None, junit: str | None, printed: bool) -> None:
    from ..testing.conformance.files import json_text, junit_xml

    if printed:
        typer.echo(json_text(report))
    elif json is not None:
        Path(json).write_text(json_text(report) + "\n", encoding="utf-8")
    if junit is not None:
        Path(junit).write_text(junit_xml(report), encoding="utf-8")


def _show(report: ConformanceReport) -> None:
    from ..testing.conformance import Status
    from ..testing.conformance.text import text_lines
    from .output import Output

    styles = {Status.PROVEN: "green", Status.BROKEN: "red", Status.UNDECLARED: "dim", Status.UNTESTED: "yellow"}
    out = Output()
    for line, status in text_lines(report):
        out.line(line, styles[status] if status is not None else "")


class _Progress:
    """One line on the terminal's stderr that counts tests; nothing elsewhere."""

    def __init__(self, *, shown: bool) -> None:
        # The stream is kept: pytest replaces sys.stderr while it runs.
        self._stream = sys.stderr if shown and sys.stderr.isatty() else None

    def move(self, finished: int, total: int) -> None:
        if self._stream is not None:
            self._stream.write(f"\r{finished} of {total} tests")
            self._stream.flush()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
