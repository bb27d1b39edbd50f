"""The guard's rules over real servers, each with the setting that a rule is about; and the facts for the doctor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loom.guard import Finding, GuardConfig, PortConfig
from loom.plugins import AdapterContext, Durability, LoomURL
from loom_redis.client import Redis
from loom_redis.facts import facts_of, server_facts
from loom_redis.guard import redis_rules
from loom_redis.journal import RedisJournalStore
from loom_redis.options import RedisOptions
from loom_redis.state import RedisStateStore
from loom_redis.testing import RedisCluster, RedisServer


@contextmanager
def _server(folder: Path, *settings: tuple[str, ...], appendonly: bool = True, fsync: str = "always") -> Iterator[str]:
    with RedisServer(folder, appendonly=appendonly, appendfsync=fsync, settings=settings) as server:
        yield server.url


async def _findings(url: str, shown: str = "") -> dict[str, Finding]:
    """What the rules say of a journal at ``url``, by code; ``shown`` is the URL that they are told."""
    parsed = LoomURL.parse(url)
    async with RedisJournalStore.from_url(parsed, AdapterContext()) as journal:
        port = PortConfig(port="journal", source="LOOM_URL", url=LoomURL.parse(shown or url))
        config = GuardConfig(ports={"journal": port}, adapters={"journal": journal})
        found = [finding for rule in redis_rules() for finding in await rule.check(config)]
    return {finding.code: finding for finding in found}


async def test_a_server_as_it_should_be(tmp_path: Path) -> None:
    with _server(tmp_path) as url:
        found = await _findings(url)
    assert set(found) == {"redis-replicas"}
    assert "no replica is connected" in found["redis-replicas"].reason


async def test_no_append_only_file(tmp_path: Path) -> None:
    with _server(tmp_path, appendonly=False) as url:
        finding = (await _findings(url))["redis-persistence"]
    assert (finding.severity, finding.lowers, finding.port) == ("refuse", Durability.NONE, "journal")


@pytest.mark.parametrize(("fsync", "said"), [("everysec", "up to a second of them"), ("no", "half a minute")])
async def test_synced_later(tmp_path: Path, fsync: str, said: str) -> None:
    with _server(tmp_path, fsync=fsync) as url:
        finding = (await _findings(url))["redis-persistence"]
    assert (finding.severity, finding.lowers) == ("warn", Durability.PROCESS)
    assert said in finding.reason
    assert "survives the process" in finding.reason


async def test_a_policy_that_evicts(tmp_path: Path) -> None:
    with _server(tmp_path, ("maxmemory", "50mb"), ("maxmemory-policy", "allkeys-lru")) as url:
        finding = (await _findings(url))["redis-eviction"]
    assert finding.severity == "refuse"
    assert "allkeys-lru" in finding.reason


async def test_an_open_server_off_this_machine(tmp_path: Path) -> None:
    with _server(tmp_path) as url:
        assert "redis-open" in await _findings(url, "redis://db.example.com:6379/0")
    with _server(tmp_path, ("requirepass", "pw")) as url:
        closed = url.replace("//", "//:pw@")
        assert "redis-open" not in await _findings(closed, "redis://:pw@db.example.com:6379/0")


async def test_a_service_that_hides_its_settings(tmp_path: Path) -> None:
    user = ("user", "app", "on", ">pw", "~*", "&*", "+@all", "-config", "-acl")
    with _server(tmp_path, user) as url:
        found = await _findings(url.replace("//", "//app:pw@"))
    assert "refuses CONFIG GET" in found["redis-persistence"].remedy
    assert "redis-eviction" not in found, "INFO shows the policy"
    assert not any("pw" in str(finding) for finding in found.values())


@pytest.mark.slow
async def test_a_cluster_that_stops_as_a_whole(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster:
        found = await _findings(cluster.url)
        redis = Redis(RedisOptions.from_url(LoomURL.parse(cluster.url)))
        await redis.start()
        facts = await facts_of(redis)
        await redis.close()
    assert "redis-coverage" in found
    assert facts["servers"] == "3"


async def test_a_port_made_over_documents_is_looked_at(tmp_path: Path) -> None:
    with _server(tmp_path, appendonly=False) as url:
        parsed = LoomURL.parse(url)
        async with RedisStateStore.from_url(parsed, AdapterContext()) as state:
            port = PortConfig(port="state", source="LOOM_URL", url=parsed)
            config = GuardConfig(ports={"state": port}, adapters={"state": state})
            codes = {finding.code for rule in redis_rules() for finding in await rule.check(config)}
    assert "redis-persistence" in codes


async def test_facts(tmp_path: Path) -> None:
    with _server(tmp_path, fsync="everysec") as url:
        redis = Redis(RedisOptions.from_url(LoomURL.parse(url)))
        await redis.start()
        facts, [server] = await facts_of(redis), await server_facts(redis)
        await redis.close()
    assert server.version >= (7, 0)
    assert "up to a second" in facts["persistence"]
    assert facts["scripts"] == "run"
    assert "appendfsync always" in facts["to change"]


def test_rules_over_other_backends_import_no_driver() -> None:
    code = (
        "import asyncio, sys\n"
        "from loom.guard import GuardConfig, PortConfig\n"
        "from loom_redis.plugin import loom_guard_rules, loom_register_adapters\n"
        "list(loom_register_adapters())\n"
        "port = PortConfig(port='journal', source='x')\n"
        "config = GuardConfig(ports={'journal': port}, adapters={'journal': object()})\n"
        "for rule in loom_guard_rules():\n"
        "    assert not list(asyncio.run(rule.check(config)))\n"
        "assert not {'redis', 'hiredis', 'loom_redis.client'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
