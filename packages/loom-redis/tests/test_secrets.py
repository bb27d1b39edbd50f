"""Secrets on Redis: the conformance suite, by a clock of the test's own and by the server's time."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.plugins import AdapterContext, LoomURL
from loom.ports.secrets import SecretsStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.secrets import SecretsStoreSuite
from loom_redis.client import Redis
from loom_redis.options import RedisOptions
from loom_redis.plugin import loom_register_adapters
from loom_redis.secrets import RedisSecretsStore

SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("secrets", "redis"))


class TestRedisSecretsStore(SecretsStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        clock, options = ManualClock(), RedisOptions.from_url(LoomURL.parse(self.url))
        return Harness(lambda: RedisSecretsStore(Redis(options), clock=clock), clock=clock, url=self.url)


@pytest.mark.slow
class TestRedisSecretsStoreByTheServersTime(SecretsStoreSuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        return Harness(lambda: RedisSecretsStore.from_url(LoomURL.parse(self.url), AdapterContext()), url=self.url)
