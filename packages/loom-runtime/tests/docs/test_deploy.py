"""The files in ``deploy/`` fit the commands and options that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loom.cli.tree import build
from loom.options import RuntimeOptions
from loom.settings import load_settings

ROOT = Path(__file__).parents[4]
SERVICE = ROOT / "deploy" / "loom.service"
CONFIGURATIONS = sorted((ROOT / "deploy" / "configurations").glob("*.toml"))


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


def test_the_documents_show_every_configuration_as_it_is() -> None:
    text = (ROOT / "docs" / "configurations.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```toml (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in CONFIGURATIONS}
    assert len(files) == 4
    assert dict(shown) == files


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_a_configuration_is_one_for_production(path: Path) -> None:
    settings = load_settings(toml_path=path, environ={})
    assert settings.environment == "production"
    assert all(str(source).startswith(str(path)) for _, source in settings.port_urls.values()), "nothing is left open"
