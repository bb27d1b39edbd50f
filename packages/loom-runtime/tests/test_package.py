"""What the installed distribution promises: metadata, typing, one version, and a light import."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources

import pytest

from loom.__about__ import __version__

DISTRIBUTION = "loom-runtime"
HEAVY = ("typer", "click", "rich", "pluggy", "pytest", "_pytest", "hypothesis", "pydantic")
"""Belong to the shell, to plugins, to tests or to an extra: a program that imports loom does not pay for them."""


def test_version_is_the_one_in_about() -> None:
    assert metadata.version(DISTRIBUTION) == __version__


def test_metadata_says_what_matters_to_an_installer() -> None:
    about = metadata.metadata(DISTRIBUTION)
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "Apache-2.0"
    assert about.get_all("License-File") == ["LICENSE"]
    assert "Typing :: Typed" in about.get_all("Classifier", [])
    assert set(about.get_all("Provides-Extra", [])) >= {"testing", "pydantic"}


def test_the_loom_command_is_declared() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="loom")
    assert script.value == "loom.cli:main"


def test_no_pytest_plugin_or_loom_plugin_is_registered_by_installation() -> None:
    declared = metadata.distribution(DISTRIBUTION).entry_points
    assert {entry.group for entry in declared} == {"console_scripts"}


def test_tests_and_extras_are_no_requirement_of_a_plain_install() -> None:
    plain = [line for line in metadata.requires(DISTRIBUTION) or [] if "extra ==" not in line]
    assert not [line for line in plain if line.startswith(("pytest", "hypothesis", "pydantic"))]


def test_package_is_marked_as_typed() -> None:
    assert resources.files("loom").joinpath("py.typed").is_file()


@pytest.mark.parametrize("module", ["loom", "loom.errors", "loom.ports"])
def test_import_is_light(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)
    assert done.stderr == ""


def test_importing_loom_loads_neither_the_shell_nor_the_testing_kit() -> None:
    program = "import sys, loom; print(*[name for name in ('loom.cli', 'loom.testing') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
