"""Workflows a second on SQLite, started and awaited, 50 in flight."""

from __future__ import annotations

import asyncio

from loom import Context, Loom, Workflow, workflow

from .measure import Figure, drive, raw_commits, temporary_folder

__all__ = ["measure"]


async def double(number: int) -> int:
    """A step without I/O: what is measured is the durability around it."""
    return number * 2


@workflow
async def one_step(ctx: Context, number: int) -> int:
    """One step."""
    return await ctx.step(double)(number)


@workflow
async def ten_steps(ctx: Context, number: int) -> int:
    """Ten steps, one after another."""
    for _ in range(10):
        number = await ctx.step(double)(number)
    return number


async def _load(definition: Workflow[[int], int], total: int, in_flight: int) -> tuple[float, list[float]]:
    with temporary_folder() as folder:
        async with Loom(workflows=[one_step, ten_steps], url=f"sqlite:///{folder}/loom.db", env="test") as app:
            return await drive(lambda number: app.workflow(definition, f"r{number}").run(number), total, in_flight)


def measure(*, quick: bool = False) -> list[Figure]:
    """One-step and ten-step workflows."""
    scale = 4 if quick else 1
    before = raw_commits(3000 // scale)
    figures = []
    for name, definition, total, wanted in (
        ("workflows of one step, 50 in flight", one_step, 10_000 // scale, 1.0),
        ("workflows of ten steps, 50 in flight", ten_steps, 3_000 // scale, 0.25),
    ):
        rate, latencies = asyncio.run(_load(definition, total, 50))
        after = raw_commits(3000 // scale)
        raw, before = (before + after) / 2, after  # the disk's pace drifts: taken on both sides of the load
        figures.append(
            Figure(
                name=name, value=rate, unit="runs/s", raw=raw, raw_name="single SQLite commits/s", wanted=wanted,
                p50_ms=latencies[len(latencies) // 2] * 1e3, p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
            )
        )  # fmt: skip
    return figures
