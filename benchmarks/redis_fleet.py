"""Durable calls through Redis: a client process, a host process and a redis-server, on one machine.

Raw limits of the same run, by redis-py and with nothing else going on: PING one at a time, and the journal's own
compare-and-append script, 200 in one pipeline.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from loom import Loom

from .measure import Figure, drive, temporary_folder
from .turns import Counter

__all__ = ["measure"]

KEYS = 1000
IN_FLIGHT = 200


def _app(url: str) -> Loom:
    return Loom(actors=[Counter], url=url, env="test")


async def _host(url: str) -> None:
    async with _app(url):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _load(url: str, total: int, singles: int) -> tuple[float, list[float], list[float]]:
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.redis_fleet", url,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert host.stdout is not None
    assert (await host.stdout.readline()).strip() == b"ready"
    try:
        async with _app(url).client() as client:
            await asyncio.gather(*(client.actor(Counter, f"c{key}").add(0) for key in range(KEYS)))
            rate, latencies = await drive(
                lambda number: client.actor(Counter, f"c{number % KEYS}").add(1), total, IN_FLIGHT
            )
            _, alone = await drive(lambda number: client.actor(Counter, "c0").add(1), singles, 1)
            return rate, latencies, alone
    finally:
        host.terminate()
        await host.wait()


async def _raw(url: str, total: int, singles: int) -> tuple[float, float]:
    """By redis-py: appends a second, 200 in one pipeline, and the median seconds of a PING."""
    from redis.asyncio import Redis

    from loom_redis.journal_records import head_text, pack_entry
    from loom_redis.scripts import load_script

    script, data = load_script("journal_append"), b"x" * 200
    async with Redis.from_url(url) as redis:
        sha = await redis.script_load(script.text.decode())
        began = time.perf_counter()
        for seq in range(1, total // IN_FLIGHT + 1):
            pipeline = redis.pipeline(transaction=False)
            for slot in range(IN_FLIGHT):
                before, head = head_text(seq - 1, f"e{seq - 1}" if seq > 1 else ""), head_text(seq, f"e{seq}")
                names = [f"raw/{slot}"] if seq == 1 else []
                entry = pack_entry(head, 0, data)
                pipeline.evalsha(sha, 2, f"raw:{slot}", "raw:names", 1, before, head, 0, seq, entry, *names)
            assert set(await pipeline.execute()) == {1}
        rate = total / (time.perf_counter() - began)
        pings = []
        for _ in range(singles):
            began = time.perf_counter()
            await redis.ping()
            pings.append(time.perf_counter() - began)
    return rate, sorted(pings)[len(pings) // 2]


def measure(*, quick: bool = False) -> list[Figure]:
    """Calls with 200 in flight on 1000 keys, and one at a time, with both settings of ``appendfsync``."""
    from loom_redis.testing import RedisServer

    scale = 4 if quick else 1
    figures: list[Figure] = []
    for fsync in ("everysec", "always"):
        with temporary_folder() as folder, RedisServer(Path(folder) / "redis", appendfsync=fsync) as server:
            raw, ping = asyncio.run(_raw(server.url, 20_000 // scale, 2_000 // scale))
            rate, latencies, alone = asyncio.run(_load(server.url, 20_000 // scale, 2_000 // scale))
        figures += [
            Figure(
                name=f"calls through Redis, {KEYS} keys, {IN_FLIGHT} in flight, appendfsync {fsync}",
                value=rate, unit="calls/s", raw=raw, raw_name="appends/s by redis-py in pipelines of 200", wanted=0.3,
                p50_ms=latencies[len(latencies) // 2] * 1e3, p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
            ),
            Figure(
                name=f"the same against PING one at a time, appendfsync {fsync}",
                value=rate, unit="calls/s", raw=1 / ping, raw_name="PING/s by redis-py", wanted=0.5,
            ),
            Figure(
                name=f"one call at a time, p50, appendfsync {fsync}",
                value=alone[len(alone) // 2] * 1e3, unit="ms", raw=ping * 1e3, raw_name="ms for a PING by redis-py",
                wanted=8.0, higher_is_better=False,
            ),
        ]  # fmt: skip
    return figures


if __name__ == "__main__":
    asyncio.run(_host(sys.argv[1]))
