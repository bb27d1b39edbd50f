"""Fixtures: a place for actors, in memory and in SQLite, or in one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .place import Place


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    await place.close_all()


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place("memory", tmp_path)
    yield place
    await place.close_all()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place("sqlite", tmp_path)
    yield place
    await place.close_all()
