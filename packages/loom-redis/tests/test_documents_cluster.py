"""Documents on a cluster of three masters: partitions lie on all of them, and their list on one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from loom.plugins import AdapterContext, LoomURL
from loom.ports.documents import Collection, Condition, DocumentStore, Query
from loom.ports.idempotency import IdempotencyStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.documents import DocumentStoreSuite
from loom.testing.suites.idempotency import IdempotencyStoreSuite
from loom_redis.client import Redis
from loom_redis.document_keys import PartitionKeys
from loom_redis.documents import RedisDocumentStore
from loom_redis.idempotency import RedisIdempotencyStore
from loom_redis.options import RedisOptions
from loom_redis.plugin import loom_register_adapters
from loom_redis.testing import RedisCluster

pytestmark = pytest.mark.slow

SPECS = {spec.port: spec for spec in loom_register_adapters() if spec.scheme == "redis+cluster"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def cluster_url(cluster: RedisCluster, redis_url: str) -> str:
    return f"{cluster.url}?{redis_url.partition('?')[2]}"


class TestDocuments(DocumentStoreSuite):
    spec = SPECS["documents"]

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster_url: str) -> None:
        self.url = cluster_url

    def harness(self, tmp_path: Path) -> Harness[DocumentStore]:
        clock, options = ManualClock(), RedisOptions.from_url(LoomURL.parse(self.url))
        return Harness(lambda: RedisDocumentStore(Redis(options), clock=clock), clock=clock, url=self.url)


class TestIdempotency(IdempotencyStoreSuite):
    spec = SPECS["idempotency"]

    @pytest.fixture(autouse=True)
    def _cluster(self, cluster_url: str) -> None:
        self.url = cluster_url

    def harness(self, tmp_path: Path) -> Harness[IdempotencyStore]:
        return Harness(lambda: RedisIdempotencyStore.from_url(LoomURL.parse(self.url), AdapterContext()), url=self.url)


async def test_queries_gather_from_every_master(cluster: RedisCluster, cluster_url: str) -> None:
    async with RedisDocumentStore.from_url(LoomURL.parse(cluster_url), AdapterContext()) as store:
        await store.ensure([Collection("c", indexes=(("even", "n"),))])
        await asyncio.gather(
            *(store.put("c", f"p{n:03}", "a", {"n": n, "even": n % 2 == 0}, create_only=True) for n in range(200))
        )
        assert all(int(size) > 100 for size in await store._redis.call_all("DBSIZE")), "they do lie on all three"
        page = await store.query("c", Query(limit=1000))
        assert [document.body["n"] for document in page.documents] == list(range(200))
        even = Query(where=(Condition("even", "==", True),), order_by="n", descending=True, limit=1000)
        assert [d.body["n"] for d in (await store.query("c", even)).documents] == list(range(198, -1, -2))
        await asyncio.gather(*(store.delete("c", f"p{n:03}", "a") for n in range(200)))
        assert [names async for names in store._partitions.names("c")] == []


async def test_a_partition_moves_to_another_master_while_it_is_written(cluster: RedisCluster, cluster_url: str) -> None:
    async with RedisDocumentStore.from_url(LoomURL.parse(cluster_url), AdapterContext()) as store:
        await store.ensure([Collection("c", indexes=(("n",),))])
        done, written = False, dict.fromkeys((f"w{n}" for n in range(8)), 0)
        documents = {id: await store.put("c", "moving", id, {"n": 0}, create_only=True) for id in written}

        async def write(id: str) -> None:
            while not done:
                written[id] += 1
                documents[id] = await store.put("c", "moving", id, {"n": written[id]}, if_match=documents[id].etag)

        writers = [asyncio.ensure_future(write(id)) for id in written]
        slot = key_slot(PartitionKeys.of(store._redis, "c", "moving").documents.encode())
        for _ in range(3):
            before = sum(written.values())
            await asyncio.to_thread(_move, cluster, str(slot))
            while sum(written.values()) < before + 100:
                await asyncio.sleep(0.001)
        done = True
        await asyncio.gather(*writers)
        found = (await store.query("c", Query(order_by="n"))).documents
        assert found == sorted(documents.values(), key=lambda d: (d.body["n"], d.id))
        assert [d.body["n"] for d in (await store.query("c", Query(partition="moving"))).documents] == list(
            written.values()
        )


def _move(cluster: RedisCluster, slot: str) -> None:
    """As ``redis-cli --cluster reshard`` does; scripts are told to try again while some of their keys are elsewhere."""
    ids = {server.port: server.cli("CLUSTER", "MYID").strip() for server in cluster.servers}
    source = next(server for server in cluster.servers if int(server.cli("CLUSTER", "COUNTKEYSINSLOT", slot)) > 0)
    target = next(server for server in cluster.servers if server is not source)
    target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    for key in source.cli("CLUSTER", "GETKEYSINSLOT", slot, "100").split():
        source.cli("MIGRATE", "127.0.0.1", str(target.port), key, "0", "5000")
    for server in (target, source, *cluster.servers):
        server.cli("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
