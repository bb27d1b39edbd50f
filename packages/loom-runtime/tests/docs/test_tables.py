"""The tables of the documents list what the code has."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import msgspec
import pytest

from loom import options
from loom.environment import ENVIRONMENTS
from loom.options import RuntimeOptions
from loom.plugins.spec import PORTS
from loom.runtime.crashpoints import CRASH_POINTS
from loom.settings import load_settings

ROOT = Path(__file__).resolve().parents[4]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documents lie in the repository")


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def descriptions() -> dict[str, str]:
    """The docstring under every option, as one line."""
    tree = ast.parse(Path(options.__file__).read_text(encoding="utf-8"))
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def test_every_option_is_listed_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+) \| (.*) \|$", read("configuration.md"), re.MULTILINE)
    about = descriptions()
    fields = msgspec.structs.fields(RuntimeOptions)
    assert rows == [(field.name, f"{field.default:,}", about[field.name]) for field in fields]


def test_every_port_and_environment_is_named() -> None:
    text = read("configuration.md")
    assert f"The ports: {', '.join(f'`{port}`' for port in PORTS)}." in text
    assert all(f"`{environment}`" in text for environment in ENVIRONMENTS)


def test_the_loom_toml_is_one(tmp_path: Path) -> None:
    [toml] = re.findall(r"^```toml\n(.*?)^```$", read("configuration.md"), re.MULTILINE | re.DOTALL)
    (tmp_path / "loom.toml").write_text(toml, encoding="utf-8")
    settings = load_settings(toml_path=tmp_path / "loom.toml", environ={})
    assert settings.environment == "production"
    assert settings.options.turn_deadline == 10
    assert str(settings.url_for("journal")[0]) == "sqlite:////var/lib/bank/loom.db"
    assert str(settings.url_for("blobs")[0]) == "file:///var/lib/bank/blobs"


def test_every_crash_point_is_explained() -> None:
    rows = re.findall(r"^\| `([a-z]+\.[a-z]+)` \| .+ \| .+ \|$", read("concepts.md"), re.MULTILINE)
    assert rows == list(CRASH_POINTS)


def test_every_record_is_in_the_index() -> None:
    records = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert re.findall(r"^\| \[\d{4}\]\((.+?)\) \|", read("adr/README.md"), re.MULTILINE) == records
