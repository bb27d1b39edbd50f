"""A real redis-server for the tests of this package: one process for the session, an empty namespace for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loom_redis.testing import RedisServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(Path(tmp_path_factory.mktemp("redis")), appendfsync="always") as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """A URL of a namespace that nobody has used."""
    return f"{redis_server.url}?namespace=test-{next(_numbers)}"


@pytest.fixture
def fresh_url(redis_server: RedisServer) -> Callable[[], str]:
    """Makes such URLs, for tests that need several."""
    return lambda: f"{redis_server.url}?namespace=test-{next(_numbers)}"
