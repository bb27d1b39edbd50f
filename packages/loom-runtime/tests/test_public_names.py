"""The public names of ``loom`` are a promise: public_names.txt changes only when the promise is meant to change."""

from __future__ import annotations

from pathlib import Path

import loom

FROZEN = Path(__file__).with_name("public_names.txt")


def exported() -> list[str]:
    return list(getattr(loom, "__all__", []))


def test_public_names_are_the_frozen_ones() -> None:
    frozen = FROZEN.read_text(encoding="utf-8").split()
    added, removed = sorted(set(exported()) - set(frozen)), sorted(set(frozen) - set(exported()))
    assert not removed, f"gone from loom.__all__, which breaks users: {removed}"
    assert not added, f"new in loom.__all__; if that is meant, add to {FROZEN.name}: {added}"


def test_frozen_names_are_sorted_and_unique() -> None:
    frozen = FROZEN.read_text(encoding="utf-8").split()
    assert frozen == sorted(set(frozen))


def test_every_public_name_exists_once() -> None:
    assert len(exported()) == len(set(exported()))
    assert [name for name in exported() if not hasattr(loom, name)] == []
