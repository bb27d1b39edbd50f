"""The directory of actors on Redis: the conformance suite, by a clock of the test's own and by the server's time."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.plugins import LoomURL
from loom.ports.registry import ActorRegistry
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.registry import ActorRegistrySuite
from loom_redis.client import Redis
from loom_redis.options import RedisOptions
from loom_redis.plugin import loom_register_adapters
from loom_redis.registry import RedisActorRegistry

SPEC = next(s for s in loom_register_adapters() if (s.port, s.scheme) == ("registry", "redis"))


class TestRedisActorRegistry(ActorRegistrySuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[ActorRegistry]:
        clock, options = ManualClock(), RedisOptions.from_url(LoomURL.parse(self.url))
        return Harness(lambda: RedisActorRegistry(Redis(options), clock=clock), clock=clock, url=self.url)


@pytest.mark.slow
class TestRedisActorRegistryByTheServersTime(ActorRegistrySuite):
    spec = SPEC

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def harness(self, tmp_path: Path) -> Harness[ActorRegistry]:
        # No url: another process takes longer to start than these records live.
        options = RedisOptions.from_url(LoomURL.parse(self.url))
        return Harness(lambda: RedisActorRegistry(Redis(options), ttl=3.0))
