"""The Redis queue beside other job queues on the same server: jobs drained by one worker, and how soon a job starts."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import secrets
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from loom.plugins import AdapterContext, LoomURL
from loom.ports import Delivery, OutgoingMessage
from loom_redis.queue import RedisMessageQueue
from loom_redis.testing import RedisServer

from .measure import Figure, temporary_folder

__all__ = ["measure"]

T = TypeVar("T")
_IN_FLIGHT = 50
Started = Callable[[float], None]
"""Called by a job with the time at which it was enqueued."""


class System(ABC):
    """A job queue with one worker, both in this process. Jobs do nothing but say that they have started."""

    name: str
    needs: str = ""

    def __init__(self, url: str, started: Started) -> None:
        self.url = url
        self.started = started

    @abstractmethod
    async def open(self) -> None:
        """Connect whoever enqueues."""

    @abstractmethod
    async def enqueue(self, number: int) -> None:
        """Enqueue one job that carries the time."""

    @abstractmethod
    async def work(self) -> None:
        """Work with 50 jobs in flight until cancelled."""

    @abstractmethod
    async def close(self) -> None:
        """Leave the server."""


class LoomSystem(System):
    name = "Loom"

    async def open(self) -> None:
        self._queue = RedisMessageQueue.from_url(LoomURL.parse(self.url), AdapterContext())
        self._run = secrets.token_hex(8)
        await self._queue.start()

    async def enqueue(self, number: int) -> None:
        body = json.dumps({"at": time.time(), "n": number}).encode()
        await self._queue.send(OutgoingMessage(queue="jobs", id=f"{self._run}-{number}", body=body))

    async def work(self) -> None:
        """Charge an attempt, do, and acknowledge: at least once, as the others."""
        queue, running = self._queue, set[asyncio.Task[None]]()

        async def run(delivery: Delivery) -> None:
            if (await queue.begin([delivery]))[0]:
                self.started(json.loads(delivery.body)["at"])
                await queue.ack([delivery])

        while True:
            for delivery in await queue.receive(["jobs"], limit=_IN_FLIGHT - len(running), wait=5.0):
                task = asyncio.ensure_future(run(delivery))
                running.add(task)
                task.add_done_callback(running.discard)
            if len(running) == _IN_FLIGHT:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        await self._queue.close()


class TaskiqSystem(System):
    name, needs = "taskiq-redis", "taskiq_redis"

    async def open(self) -> None:
        from taskiq_redis import RedisStreamBroker

        logging.getLogger("taskiq").setLevel(logging.ERROR)
        self._broker = RedisStreamBroker(url=self.url, queue_name="taskiq-jobs", consumer_id="0")
        self._broker.is_worker_process = True

        async def job(at: float, n: int) -> None:
            self.started(at)

        self._job = self._broker.register_task(job, task_name="job")
        await self._broker.startup()

    async def enqueue(self, number: int) -> None:
        await self._job.kiq(at=time.time(), n=number)

    async def work(self) -> None:
        from taskiq.receiver import Receiver

        receiver = Receiver(self._broker, max_async_tasks=_IN_FLIGHT, run_startup=False)
        finish = asyncio.Event()
        listening = asyncio.ensure_future(receiver.listen(finish))
        try:
            await asyncio.shield(listening)
        finally:  # it does not end by being cancelled
            finish.set()
            await asyncio.wait([listening], timeout=10)

    async def close(self) -> None:
        await self._broker.shutdown()


class BullmqSystem(System):
    name, needs = "bullmq", "bullmq"

    async def open(self) -> None:
        from bullmq import Queue

        self._queue = Queue("bull-jobs", {"connection": self.url})

    async def enqueue(self, number: int) -> None:
        await self._queue.add("job", {"at": time.time(), "n": number}, {"removeOnComplete": True})

    async def work(self) -> None:
        from bullmq import Worker

        async def job(job: object, token: str) -> None:
            self.started(job.data["at"])  # type: ignore[attr-defined]

        worker = Worker("bull-jobs", job, {"connection": self.url, "concurrency": _IN_FLIGHT})
        try:
            await asyncio.Event().wait()
        finally:
            await worker.close(force=True)

    async def close(self) -> None:
        await self._queue.close()


SYSTEMS: tuple[type[System], ...] = (LoomSystem, TaskiqSystem, BullmqSystem)


async def _drain(system: type[System], url: str, jobs: int) -> float:
    """Jobs a second, from the start of the worker to the start of the last job."""
    done, count = asyncio.Event(), 0

    def started(at: float) -> None:
        nonlocal count
        count += 1
        if count == jobs:
            done.set()

    return await _with(system, url, started, lambda one: _drained(one, jobs, done))


async def _drained(system: System, jobs: int, done: asyncio.Event) -> float:
    for first in range(0, jobs, 200):
        await asyncio.gather(*(system.enqueue(n) for n in range(first, min(first + 200, jobs))))
    began = time.perf_counter()
    async with _working(system):
        await asyncio.wait_for(done.wait(), 120)
        return jobs / (time.perf_counter() - began)


async def _latency(system: type[System], url: str, jobs: int) -> list[float]:
    """Sorted seconds from enqueueing a job to its start, one job at a time, with pauses."""
    latencies: list[float] = []
    fresh = asyncio.Event()

    def started(at: float) -> None:
        latencies.append(time.time() - at)
        fresh.set()

    async def one_by_one(one: System) -> list[float]:
        async with _working(one):
            await asyncio.sleep(0.2)
            for number in range(jobs + 20):
                fresh.clear()
                await one.enqueue(number)
                await asyncio.wait_for(fresh.wait(), 30)
                await asyncio.sleep(0.004)
        return sorted(latencies[20:])

    return await _with(system, url, started, one_by_one)


async def _with(system: type[System], url: str, started: Started, use: Callable[[System], Awaitable[T]]) -> T:
    one = system(url, started)
    await one.open()
    try:
        return await use(one)
    finally:
        with contextlib.suppress(Exception):
            await one.close()


@contextlib.asynccontextmanager
async def _working(system: System) -> AsyncIterator[None]:
    task = asyncio.ensure_future(system.work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _raw(url: str, count: int) -> tuple[float, float]:
    """PINGs a second: one at a time, and 100 in flight."""
    queue = RedisMessageQueue.from_url(LoomURL.parse(url), AdapterContext())
    async with queue:
        ping = queue._redis.call
        began = time.perf_counter()
        for _ in range(count):
            await ping("PING")
        alone = count / (time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(count // 20):
            await asyncio.gather(*(ping("PING") for _ in range(100)))
        return alone, count // 20 * 100 / (time.perf_counter() - began)


def measure(*, quick: bool = False) -> list[Figure]:
    """Each system in turn, three rounds on one server, the median of each; then the same with every write synced."""
    jobs, rounds = (1000, 2) if quick else (4000, 3)
    systems = [system for system in SYSTEMS if not system.needs or importlib.util.find_spec(system.needs)]
    figures = []
    for appendfsync in ("everysec", "always"):
        rates: dict[str, list[float]] = {}
        delays: dict[str, list[list[float]]] = {}
        pings = []
        for _ in range(rounds):
            for system in systems:
                with temporary_folder() as folder, RedisServer(folder, appendfsync=appendfsync) as server:
                    pings.append(asyncio.run(_raw(server.url, 2000)))
                    rates.setdefault(system.name, []).append(asyncio.run(_drain(system, server.url, jobs)))
                    delays.setdefault(system.name, []).append(asyncio.run(_latency(system, server.url, jobs // 8)))
        figures += _figures(f"appendfsync {appendfsync}", rates, delays, pings)
    return figures


def _figures(
    where: str, rates: dict[str, list[float]], delays: dict[str, list[list[float]]], pings: list[tuple[float, float]]
) -> list[Figure]:
    alone, pipelined = (statistics.median(ping[n] for ping in pings) for n in (0, 1))
    figures = [
        Figure(name=f"{where}: PING one at a time", value=alone, unit="/s"),
        Figure(name=f"{where}: PING, 100 in flight", value=pipelined, unit="/s"),
    ]
    rate = {name: statistics.median(some) for name, some in rates.items()}
    median = {name: statistics.median(times[len(times) // 2] for times in some) * 1e3 for name, some in delays.items()}
    peers = [name for name in rate if name != "Loom"]
    for name, value in rate.items():
        own = name == "Loom" and bool(peers)
        best = max(peers, key=lambda peer: rate[peer]) if own else ""
        figures.append(
            Figure(
                name=f"{where}: {name}, no-op jobs, {_IN_FLIGHT} in flight", value=value, unit="jobs/s",
                raw=rate[best] if own else None, raw_name=best, wanted=2.0 if own else None,
            )
        )  # fmt: skip
    for name, value in median.items():
        own = name == "Loom" and bool(peers)
        best = min(peers, key=lambda peer: median[peer]) if own else ""
        times = sorted(time for some in delays[name] for time in some)
        figures.append(
            Figure(
                name=f"{where}: {name}, from enqueueing to the start", value=value, unit="ms",
                raw=median[best] if own else None, raw_name=f"ms {best}" if own else "", wanted=1.5 if own else None,
                higher_is_better=False, p50_ms=value, p99_ms=times[int(len(times) * 0.99)] * 1e3,
            )
        )  # fmt: skip
    return figures
