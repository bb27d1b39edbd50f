"""Activation of an actor with a long history beside one with a short one, and the memory of idle actors."""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import time

from loom import Loom, RuntimeOptions

from .measure import Figure, temporary_folder
from .turns import Counter

__all__ = ["measure"]


async def _activation(entries: int, folder: str, rounds: int) -> float:
    """Median seconds of the first call to an actor with that many entries, in a host that knows nothing of it."""
    url = f"sqlite:///{folder}/loom-{entries}.db"
    async with Loom(actors=[Counter], url=url, env="test") as app:
        for _ in range(entries):
            await app.actor(Counter, "c").add(1)
    times = []
    for _ in range(rounds):
        async with Loom(actors=[Counter], url=url, env="test") as app:
            await app.actor(Counter, "other").add(1)
            began = time.perf_counter()
            await app.actor(Counter, "c").add(1)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


async def _memory(count: int, folder: str) -> float:
    """Bytes of resident memory that one idle actor adds."""
    options = RuntimeOptions(max_active=count * 2, idle_seconds=3600)
    async with Loom(actors=[Counter], url=f"sqlite:///{folder}/memory.db", env="test", options=options) as app:
        await asyncio.gather(*(app.actor(Counter, f"warm{n}").add(1) for n in range(2000)))
        gc.collect()
        before = _resident()
        for start in range(0, count, 1000):
            await asyncio.gather(*(app.actor(Counter, f"c{start + n}").add(1) for n in range(1000)))
        gc.collect()
        return (_resident() - before) / count


def measure(*, quick: bool = False) -> list[Figure]:
    """Activation time as a ratio, and bytes an idle actor."""
    with temporary_folder() as folder:
        long = asyncio.run(_activation(2_000 if quick else 10_000, str(folder), 9))
        short = asyncio.run(_activation(100, str(folder), 9))
        memory = asyncio.run(_memory(10_000 if quick else 100_000, str(folder)))
    return [
        Figure(
            name="activation, 10,000 entries", value=long * 1e3, unit="ms", raw=short * 1e3,
            raw_name="ms with 100 entries", wanted=2.0, higher_is_better=False,
        ),
        Figure(
            name="memory of an idle actor", value=memory / 1024, unit="KiB", wanted=2.0, higher_is_better=False,
        ),
    ]  # fmt: skip
