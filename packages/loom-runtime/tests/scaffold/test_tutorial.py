"""docs/write-an-adapter.md tells the truth: quotations are generated, programs run, what it breaks is caught."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import loom.testing.suites.documents as suite

TUTORIAL = Path(__file__).resolve().parents[4] / "docs" / "write-an-adapter.md"
pytestmark = pytest.mark.skipif(not TUTORIAL.is_file(), reason="the documents lie in the repository")


def blocks(language: str) -> list[tuple[str, str]]:
    """The word after the language, and the text, of each such block."""
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"^```{language} (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def the_block(language: str, word: str) -> str:
    [text] = [text for found, text in blocks(language) if found == word]
    return text


def test_every_quotation_is_in_the_file_that_it_names(acme: Any) -> None:
    quotations = [(name, text) for name, text in [*blocks("python"), *blocks("toml")] if "." in name]
    assert len(quotations) == 5
    for name, text in quotations:
        assert text in (acme.folder / name).read_text(encoding="utf-8"), f"{name} has changed: {text}"


def test_the_files_are_those(acme: Any) -> None:
    files = [path.relative_to(acme.folder) for path in acme.folder.rglob("*") if path.is_file()]
    shown = [str(f) for f in files if not str(f).startswith(".") and "dist-info" not in str(f)]
    assert sorted(shown) == the_block("text", "files").split()


def test_the_program_prints_what_is_shown(acme: Any, tmp_path: Path) -> None:
    (tmp_path / "try.py").write_text(the_block("python", "try"), encoding="utf-8")
    done = acme.run("-W", "error", "try.py", cwd=tmp_path)
    assert done.stdout == the_block("text", "output"), done.stderr


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TUTORIAL.read_text(encoding="utf-8")))
    assert len(named) == 7
    assert [name for name in sorted(named) if not hasattr(suite.DocumentStoreSuite, name)] == []


def test_the_functions_to_rewrite_are_those(acme: Any) -> None:
    source = (acme.source / "documents.py").read_text(encoding="utf-8")
    [listed] = re.findall(r"the five functions at the end of `documents.py` \((.*?)\)", TUTORIAL.read_text())
    assert all(f"def {name}(" in source for name in re.findall(r"`(\w+)`", listed))


@pytest.mark.slow
def test_what_is_broken_is_caught_by_the_tests_that_are_shown(acme: Any) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    [(line, instead)] = re.findall(r"replace the line `(.+?)` by `(.+?)`", text)
    source = acme.source / "documents.py"
    sound = source.read_text(encoding="utf-8")
    assert sound.count(line) == 1
    source.write_text(sound.replace(line, instead), encoding="utf-8")
    shown = re.findall(r"FAILED (test_\w+)", the_block("text", "broken"))
    done = acme.run("-m", "pytest", "-q", "-p", "no:asyncio", "tests/test_documents.py", "-k", " or ".join(shown))
    assert sorted(re.findall(r"^FAILED .*::(test_\w+)", done.stdout, re.MULTILINE)) == sorted(shown), done.stdout
