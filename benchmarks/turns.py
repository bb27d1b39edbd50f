"""Durable turns a second on SQLite: a client and the host in one process, every turn one fsynced entry."""

from __future__ import annotations

import asyncio

import msgspec

from loom import Actor, Loom

from .measure import Figure, drive, raw_commits, temporary_folder

__all__ = ["measure"]


class CounterState(msgspec.Struct):
    value: int = 0


class Counter(Actor[CounterState]):
    """Adds."""

    async def add(self, amount: int) -> int:
        """Add and answer the sum."""
        self.state.value += amount
        return self.state.value


async def _load(total: int, in_flight: int, keys: int) -> tuple[float, list[float]]:
    with temporary_folder() as folder:
        async with Loom(actors=[Counter], url=f"sqlite:///{folder}/loom.db", env="test") as app:
            await asyncio.gather(*(app.actor(Counter, f"c{key}").add(0) for key in range(keys)))
            return await drive(lambda number: app.actor(Counter, f"c{number % keys}").add(1), total, in_flight)


def measure(*, quick: bool = False) -> list[Figure]:
    """Turns on 1000 actors with 200 in flight, and one at a time on one key."""
    scale = 4 if quick else 1
    before = raw_commits(3000 // scale)
    figures = []
    for name, total, in_flight, keys, wanted in (
        ("durable turns, 1000 actors, 200 in flight", 40_000 // scale, 200, 1000, 3.0),
        ("durable turns, one key, one at a time", 4_000 // scale, 1, 1, 0.5),
    ):
        rate, latencies = asyncio.run(_load(total, in_flight, keys))
        after = raw_commits(3000 // scale)
        raw, before = (before + after) / 2, after  # the disk's pace drifts: taken on both sides of the load
        figures.append(
            Figure(
                name=name, value=rate, unit="turns/s", raw=raw, raw_name="single SQLite commits/s", wanted=wanted,
                p50_ms=latencies[len(latencies) // 2] * 1e3, p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
            )
        )  # fmt: skip
    return figures
