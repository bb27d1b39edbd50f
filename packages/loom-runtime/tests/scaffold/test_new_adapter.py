"""``loom new-adapter``: what it writes, what it refuses, and that what it wrote works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loom.cli.tree import build
from loom.errors import ConfigurationError
from loom.scaffold import AdapterName, write_adapter

PACKAGE = Path(__file__).resolve().parents[2]

FILES = [
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "src/loom_acme/__init__.py",
    "src/loom_acme/documents.py",
    "src/loom_acme/file.py",
    "src/loom_acme/plugin.py",
    "src/loom_acme/py.typed",
    "tests/test_documents.py",
    "tests/test_plugin.py",
]


def test_the_command_writes_a_package_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(build(), ["new-adapter", "acme", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["folder"], told["distribution"], sorted(told["files"])) == ("loom-acme", "loom-acme", sorted(FILES))
    again = CliRunner().invoke(build(), ["new-adapter", "loom-acme"])
    assert again.exit_code == 1
    assert "not empty" in again.output
    assert CliRunner().invoke(build(), ["new-adapter", "acme", "--folder", "elsewhere"]).exit_code == 0
    assert (tmp_path / "elsewhere" / "pyproject.toml").is_file()


@pytest.mark.parametrize("name", ["", "Acme", "acme_db", "-acme", "1acme", "memory", "sqlite", "loom-redis", "cosmos"])
def test_names_that_are_none_or_taken_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        AdapterName.parse(name)


def test_everything_is_filled_in(tmp_path: Path) -> None:
    for path in write_adapter(AdapterName.parse("acme-db"), tmp_path / "p"):
        text = path.read_text(encoding="utf-8")
        assert "{{" not in text
        assert "}}" not in text
        assert all(len(line) <= 120 for line in text.splitlines()), path
        if path.suffix == ".py":
            compile(text, str(path), "exec", dont_inherit=True)
    project = tomllib.loads((tmp_path / "p" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "loom-acme-db"
    assert project["entry-points"]["loom.plugins"] == {"acme-db": "loom_acme_db.plugin"}


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        write_adapter(AdapterName.parse("acme"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_its_own_plugin_tests_pass(acme: Any) -> None:
    done = acme.run("-m", "pytest", "-q", "-p", "no:asyncio", "tests/test_plugin.py")
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_shell_sees_it(acme: Any, tmp_path: Path) -> None:
    done = acme.run("-m", "loom.cli", "plugins", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert "loom-acme" in {plugin["distribution"] for plugin in found["plugins"]}
    assert {"documents", "state", "coordination"} <= {a["port"] for a in found["adapters"] if a["scheme"] == "acme"}


@pytest.mark.slow
def test_loom_conformance_proves_it(acme: Any, tmp_path: Path) -> None:
    done = acme.run("-m", "loom.cli", "conformance", "acme:///app.db", "--port", "documents", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_its_suites_pass_and_it_is_clean(acme: Any) -> None:
    done = acme.run("-m", "pytest", "-q", "-p", "no:asyncio")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^4\d passed", done.stdout, re.MULTILINE), done.stdout
    for tool, arguments in {"ruff": ["check", "."], "mypy": ["--strict", "src"]}.items():
        if shutil.which(tool, path=str(Path(sys.executable).parent)):
            checked = acme.run("-m", tool, *arguments)
            assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (PACKAGE / "pyproject.toml").is_file(), reason="builds the wheel of this repository")
def test_from_wheels_in_a_fresh_environment(tmp_path: Path) -> None:
    """As a stranger has it: Loom's wheel, the command, the new package's wheel, discovery, suites."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOOM_", "PYTHON", "PIP_REQUIRE"))}

    def run(*command: str | Path, cwd: Path = tmp_path) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin_ = tmp_path / "venv" / "bin"
    pip = (bin_ / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "-w", "dist", PACKAGE)
    [runtime] = (tmp_path / "dist").glob("loom_runtime-*.whl")
    run(*pip, "install", f"{runtime}[testing]")
    run(bin_ / "loom", "new-adapter", "acme")
    run(*pip, "wheel", "--no-deps", "-w", "dist", tmp_path / "loom-acme")
    [wheel] = (tmp_path / "dist").glob("loom_acme-*.whl")
    run(*pip, "install", wheel)
    found = json.loads(run(bin_ / "loom", "plugins", "--json"))
    assert "loom-acme" in {plugin["distribution"] for plugin in found["plugins"] if plugin["loaded"]}
    assert found["ok"]
    shutil.rmtree(tmp_path / "loom-acme" / "src")  # the tests must run on what is installed
    assert " passed" in run(bin_ / "python", "-m", "pytest", "-q", cwd=tmp_path / "loom-acme")
