"""The stores on Redis beside what is underneath: a redis-server of the benchmark's own, on one machine.

Raw limits of the same run: the journal's script for single appends over a blocking socket with 200 in flight, with the
packing that any client has to do and nothing else; and the lock of redis-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .measure import Figure, drive, temporary_folder

__all__ = ["measure"]

STREAMS = 1000
IN_FLIGHT = 200
DATA = os.urandom(300)
LOCKERS = 50


def _appends(total: int) -> list[list[Any]]:
    """Rounds of IN_FLIGHT appends, each round to other streams."""
    from loom.ports import Append

    def entry_id(n: int) -> str:
        return f"{n:032x}" if n else ""

    rounds = []
    for number in range(total // IN_FLIGHT):
        first, seq = number % (STREAMS // IN_FLIGHT) * IN_FLIGHT, number // (STREAMS // IN_FLIGHT)
        rounds.append(
            [
                Append(f"actor/Account/{first + n:06}", seq, entry_id(seq), entry_id(seq + 1), DATA, 1)
                for n in range(IN_FLIGHT)
            ]
        )
    return rounds


def _raw_appends(server: Any, total: int) -> float:
    """Appends a second of the script alone."""
    import hiredis

    from loom_redis.channel import pack
    from loom_redis.journal_records import head_text, pack_entry
    from loom_redis.scripts import load_script

    script = load_script("journal_append")
    rounds = []
    for appends in _appends(total):
        commands: list[tuple[Any, ...]] = []
        for one in appends:
            seq, head = one.expected_seq + 1, head_text(one.expected_seq + 1, one.entry_id)
            arguments = [head_text(one.expected_seq, one.expected_entry_id), head, one.fence, seq]
            entry = pack_entry(head, one.fence, one.data)
            names = [one.stream] if seq == 1 else []
            key = f"raw:journal:{{{one.stream}}}:log"
            commands.append(("EVALSHA", script.sha, 2, key, "raw:names", 1, *arguments, entry, *names))
        rounds.append(commands)
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(pack("SCRIPT", "LOAD", script.text))
        connection.recv(1 << 16)
        began = time.perf_counter()
        for commands in rounds:
            connection.sendall(b"".join([pack(*command) for command in commands]))
            left = IN_FLIGHT
            while left:
                reader.feed(connection.recv(1 << 16))
                while (reply := reader.gets()) is not False:
                    assert reply == 1, reply
                    left -= 1
        return total / (time.perf_counter() - began)


async def _append_many(url: str, total: int) -> tuple[float, list[float]]:
    from loom.ports import Appended

    async with _opened("journal", url + "?namespace=many") as journal:
        rounds, latencies = _appends(total), []
        began = time.perf_counter()
        for appends in rounds:
            sent = time.perf_counter()
            outcomes = await journal.append_many(appends)
            latencies.append(time.perf_counter() - sent)
            assert all(isinstance(outcome, Appended) for outcome in outcomes)
        return total / (time.perf_counter() - began), sorted(latencies)


async def _append(url: str, total: int) -> tuple[float, list[float]]:
    async with _opened("journal", url + "?namespace=single") as journal:
        appends = [append for one_round in _appends(total) for append in one_round]
        return await drive(lambda number: journal.append(appends[number]), total, IN_FLIGHT)


async def _locks(url: str, total: int, *, hot: bool) -> tuple[float, list[float], float]:
    """Acquire and release: pairs a second, seconds of each, and what the least served got of the most served."""
    async with _opened("locks", url + f"?namespace=locks-{hot}") as locks:

        async def enter(name: str) -> None:
            lease = await locks.acquire(name, 60.0, wait=600.0)
            assert await locks.release(lease)

        return await _compete(enter, total, hot=hot)


async def _theirs(url: str, total: int, *, hot: bool) -> tuple[float, list[float], float]:
    """The same by redis-py's lock, with a connection for each of those in flight."""
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url, max_connections=LOCKERS * 2)

    async def enter(name: str) -> None:
        lock = client.lock(name, timeout=60.0)
        await lock.acquire()
        await lock.release()

    try:
        return await _compete(enter, total, hot=hot)
    finally:
        await client.aclose()


async def _compete(enter: Any, total: int, *, hot: bool) -> tuple[float, list[float], float]:
    counts, latencies, left = [0] * LOCKERS, [], total

    async def locker(n: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await enter("hot" if hot else f"own-{n}-{counts[n] % 10}")
            latencies.append(time.perf_counter() - began)
            counts[n] += 1

    began = time.perf_counter()
    await asyncio.gather(*(locker(n) for n in range(LOCKERS)))
    return total / (time.perf_counter() - began), sorted(latencies), min(counts) / max(counts)


def _opened(port: Any, url: str) -> Any:
    from loom.plugins import AdapterContext, AdapterRegistry

    return AdapterRegistry().open(port, url, AdapterContext())


@contextlib.contextmanager
def _server(appendfsync: str) -> Iterator[Any]:
    from loom_redis.testing import RedisServer

    with temporary_folder() as folder, RedisServer(Path(folder), appendfsync=appendfsync) as server:
        yield server


def _measure(appendfsync: str, scale: int) -> list[Figure]:
    total, few = 100_000 // scale, 150 // scale
    with _server(appendfsync) as server:
        raw = _raw_appends(server, total)
        many, batches = asyncio.run(_append_many(server.url, total))
        single, singles = asyncio.run(_append(server.url, total))
        own_raw, _, _ = asyncio.run(_theirs(server.url, 8000 // scale, hot=False))
        own, owns, _ = asyncio.run(_locks(server.url, 20_000 // scale, hot=False))
        hot_raw, _, _ = asyncio.run(_theirs(server.url, few, hot=True))
        hot, hots, fairness = asyncio.run(_locks(server.url, 20_000 // scale, hot=True))
    script, theirs = "of the script alone, 200 in flight", "redis-py"
    rows = [
        ("append_many of 200 streams", many, "appends/s", batches, raw, script, 1.0),
        ("append, 200 in flight", single, "appends/s", singles, raw, script, None),
        ("locks of their own, 50 in flight", own, "pairs/s", owns, own_raw, theirs, 1.0),
        ("one lock, 50 waiters", hot, "pairs/s", hots, hot_raw, theirs, 10.0),
        ("one lock: least served of most served", fairness, "", None, None, "", 0.9),
    ]
    return [
        Figure(
            name=f"Redis ({appendfsync}): {name}", value=value, unit=unit, raw=limit, raw_name=limit_name,
            wanted=wanted,
            p50_ms=None if times is None else times[len(times) // 2] * 1e3,
            p99_ms=None if times is None else times[int(len(times) * 0.99)] * 1e3,
        )
        for name, value, unit, times, limit, limit_name, wanted in rows
    ]  # fmt: skip


def measure(*, quick: bool = False) -> list[Figure]:
    """Journal and locks, with the append-only file synced every second and at every write."""
    scale = 4 if quick else 1
    return [figure for appendfsync in ("everysec", "always") for figure in _measure(appendfsync, scale)]
