"""The error tree: stable codes, complete lists, and exceptions that survive a trip to another process."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loom import errors
from loom.errors import LoomError

FROZEN = Path(__file__).with_name("error_codes.txt")
SOURCES = Path(errors.__file__).parent


def tree(root: type[LoomError]) -> Iterator[type[LoomError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


ALL = sorted({error for error in tree(LoomError) if error.__module__ == errors.__name__}, key=lambda e: e.__name__)

every_error = pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)


def documented_parents() -> dict[str, str]:
    """Name -> parent, as drawn in the module docstring."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        found = re.match(r"^(?P<lead>[ |]*(?:\+-- )?)(?P<name>[A-Z]\w*Error)\b", line)
        if found is None or not (found["lead"].endswith("+-- ") or found["name"] == "LoomError"):
            continue
        depth = len(found["lead"])
        path = [(column, name) for column, name in path if column < depth]
        parents[found["name"]] = path[-1][1] if path else ""
        path.append((depth, found["name"]))
    return parents


def test_codes_are_the_frozen_ones() -> None:
    frozen = dict(line.split() for line in FROZEN.read_text(encoding="utf-8").splitlines())
    actual = {error.__name__: error.code for error in ALL}
    assert actual == frozen, f"a code is a promise; if a new error is meant, add its line to {FROZEN.name}"


def test_codes_are_unique() -> None:
    codes = [error.code for error in ALL]
    assert sorted(codes) == sorted(set(codes))


@every_error
def test_code_is_declared_by_the_class_itself(error: type[LoomError]) -> None:
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", error.code)


@every_error
def test_is_exported(error: type[LoomError]) -> None:
    assert error.__name__ in errors.__all__


def test_docstring_draws_the_tree_as_it_is() -> None:
    assert documented_parents() == {
        error.__name__: "" if error is LoomError else error.__bases__[0].__name__ for error in ALL
    }


def test_no_error_of_loom_is_defined_elsewhere() -> None:
    names = {error.__name__ for error in ALL}
    strays = []
    for path in sorted(SOURCES.rglob("*.py")):
        if path == Path(errors.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and names & {ast.unparse(base).split(".")[-1] for base in node.bases}:
                strays.append(f"{path.relative_to(SOURCES)}: {node.name}")
    assert strays == []


@every_error
def test_message_and_context_survive_pickle_and_copy(error: type[LoomError]) -> None:
    original = error("what happened", stream="actor/Account/alice", seq=4)
    for twin in (pickle.loads(pickle.dumps(original)), copy.copy(original)):
        assert type(twin) is error
        assert twin.args == original.args
        assert twin.context == original.context
        assert str(twin) == "what happened"


@every_error
def test_attributes_survive_pickle(error: type[LoomError]) -> None:
    original = error("what happened", stream="actor/Account/alice")
    assert vars(pickle.loads(pickle.dumps(original))) == vars(original)
