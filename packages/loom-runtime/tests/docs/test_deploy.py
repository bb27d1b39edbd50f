"""The files in ``deploy/`` fit the commands and options that they name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loom.cli.tree import build
from loom.options import RuntimeOptions
from loom.settings import load_settings

SERVICE = Path(__file__).parents[4] / "deploy" / "loom.service"


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in SERVICE.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_a_command_that_exists(unit: dict[str, list[str]]) -> None:
    [start] = unit["ExecStart"]
    program, command, *arguments = shlex.split(start)
    assert Path(program).name == "loom"
    assert arguments == ["shop:app"]
    assert CliRunner().invoke(build(), [command, "--help"]).exit_code == 0


def test_the_unit_sets_variables_that_are_read(unit: dict[str, list[str]]) -> None:
    environ = dict(setting.split("=", 1) for setting in unit["Environment"])
    settings = load_settings(environ=environ)
    assert settings.environment == "production"
    assert settings.url_for("journal")[0].path == "//var/lib/loom/loom.db"


def test_systemd_waits_longer_than_the_host_drains(unit: dict[str, list[str]]) -> None:
    assert float(unit["TimeoutStopSec"][0]) > RuntimeOptions().drain_seconds
