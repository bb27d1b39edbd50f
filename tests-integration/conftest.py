"""Makes ``support`` importable by the tests here (the workers get the same path by ``PYTHONPATH``), and gives places
to put banks: SQLite files, and a redis-server whose namespaces are as good as servers of their own.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from support.places import FilePlace, UrlPlace

    from loom_redis.testing import RedisServer

_numbers = itertools.count(1)


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    from support.places import FilePlace

    return FilePlace(tmp_path / "bank.db")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that keeps what it has acknowledged. Not for tests that harm it."""
    from loom_redis.testing import RedisServer

    with RedisServer(Path(tmp_path_factory.mktemp("redis")), appendfsync="always") as server:
        yield server


@pytest.fixture
async def redis_place(shared_redis: RedisServer) -> AsyncIterator[UrlPlace]:
    """A namespace that nobody has used."""
    from support.places import MEMBER_TTL, UrlPlace

    url = f"{shared_redis.url}?namespace=test-{next(_numbers)}&member_ttl={MEMBER_TTL}"
    async with UrlPlace.of(url) as place:
        yield place
