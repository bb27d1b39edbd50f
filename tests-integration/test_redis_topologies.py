"""The whole runtime on a Sentinel group, on a cluster, and with its ports spread over servers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.fleet import hosts
from support.load import Load, carry_out_plan
from support.places import MEMBER_TTL, UrlPlace

from loom_redis.testing import RedisCluster, RedisServer, SentinelGroup

pytestmark = pytest.mark.crash


async def test_sentinel_fails_over_under_load(tmp_path: Path) -> None:
    """The master is killed: what was acknowledged is on a replica (wait_replicas=1), which takes its place."""
    with SentinelGroup(tmp_path) as group:
        url = f"{group.url}?wait_replicas=1&member_ttl={MEMBER_TTL}"
        async with UrlPlace.of(url, crash_attempts=1000) as place, hosts(place, 2), Load(place, careful=True) as load:
            planned = asyncio.ensure_future(carry_out_plan(place))
            await load.more(100)
            group.master.kill()
            await load.more(2, load.accounts)
            await load.more(100)
            await planned
            await load.finish()
            print(f"\n{load.count} calls, {len(load.errors)} repeated, the slowest took {load.slowest:.2f} s")


async def test_a_cluster_moves_slots_under_load(tmp_path: Path) -> None:
    """Every slot of one master that holds anything goes to another: journals, mailboxes, documents, the fleet."""
    with RedisCluster(tmp_path) as cluster:
        async with (
            UrlPlace.of(f"{cluster.url}?member_ttl={MEMBER_TTL}") as place,
            hosts(place, 2),
            Load(place, callers=2, accounts=6, careful=True) as load,
        ):
            await carry_out_plan(place)
            await load.more(50)
            moved = await asyncio.to_thread(empty_a_master, cluster)
            await load.more(2, load.accounts)
            await load.finish()
            print(
                f"\n{moved} slots moved, {load.count} calls, {len(load.errors)} repeated, slowest {load.slowest:.2f} s"
            )


async def test_a_master_of_a_cluster_dies_under_load(tmp_path: Path) -> None:
    """Hosts and clients find the replica that takes its place; then a host dies too."""
    with RedisCluster(tmp_path, replicas=2) as cluster:
        url = f"{cluster.url}?wait_replicas=1&member_ttl={MEMBER_TTL}"
        async with (
            UrlPlace.of(url, crash_attempts=1000) as place,
            hosts(place, 2) as (_, two),
            Load(place, callers=2, accounts=6, careful=True) as load,
        ):
            planned = asyncio.ensure_future(carry_out_plan(place))
            await load.more(50)
            cluster.servers[0].kill()
            await load.more(2, load.accounts)
            await two.kill()
            await load.more(2, load.accounts)
            await planned
            await load.finish()
            print(f"\n{load.count} calls, {len(load.errors)} repeated, the slowest took {load.slowest:.2f} s")


def empty_a_master(cluster: RedisCluster) -> int:
    """Move what the first master holds to the second, slot by slot, as ``redis-cli --cluster reshard`` does."""
    source, target, *_ = cluster.servers
    ids = {server.port: server.cli("CLUSTER", "MYID") for server in cluster.servers}
    slots = {source.cli("CLUSTER", "KEYSLOT", key) for key in source.cli("--scan").splitlines()}
    for slot in sorted(slots):
        target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", slot, "100").splitlines():
            source.cli("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
        for server in (target, source, *cluster.servers):
            server.cli("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
    return len(slots)


async def test_a_journal_on_another_server(shared_redis: RedisServer, tmp_path: Path) -> None:
    """LOOM_URL for coordination, queue and documents; the journal has a server of its own, which is killed."""
    with RedisServer(tmp_path, appendfsync="always") as apart:
        url = f"{shared_redis.url}?namespace=hybrid-journal&member_ttl={MEMBER_TTL}"
        async with (
            UrlPlace.of(url, {"journal": apart.url}, crash_attempts=1000) as place,
            hosts(place, 2) as (_, two),
            Load(place, careful=True) as load,
        ):
            await carry_out_plan(place)
            await load.more(100)
            apart.kill()
            await asyncio.sleep(0.5)
            apart.start()
            await load.more(2, load.accounts)
            await two.kill()
            await load.more(2, load.accounts)
            await load.finish()
            assert not shared_redis.cli("--scan", "--pattern", "hybrid-journal:journal:*")


async def test_requests_on_bullmq_go_through_a_killed_host(shared_redis: RedisServer) -> None:
    """No order is promised there; once is."""
    pytest.importorskip("bullmq")
    url = f"{shared_redis.url}?namespace=hybrid-bullmq&member_ttl={MEMBER_TTL}"
    bullmq = f"{shared_redis.url.replace('redis://', 'bullmq://')}?namespace=hybrid-bullmq"
    async with (
        UrlPlace.of(url, {"queue": bullmq}, crash_attempts=1000) as place,
        hosts(place, 2) as (_, two),
        Load(place, careful=True, ordered=False) as load,
    ):
        await carry_out_plan(place)
        await load.more(100)
        await two.kill()
        await load.more(2, load.accounts)
        await load.finish()
