"""Running alone: a request that may have crashed a host is tried with nothing else under way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from .job import Job

if TYPE_CHECKING:
    from .host import Host

__all__ = ["Exclusive"]


class Exclusive:
    """One suspicious request at a time; others wait at the door, except what the one waits for itself."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._holder: Job | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._knocks: dict[str, asyncio.Future[None]] = {}

    @property
    def busy(self) -> bool:
        """Whether something runs, or waits to run, alone."""
        return self._holder is not None

    def admits(self, job: Job) -> bool:
        """Whether the request may run now: nothing runs alone, or it is that itself, or part of its call tree."""
        holder = self._holder
        if holder is None or holder is job or job.message.chain:
            return True
        stream = holder.message.stream
        return job.caller == stream or (job.recovered and job.message.stream == stream)

    def invite(self, job: Job) -> None:
        """Make the request part of the call tree of what runs alone."""
        if self._holder is not None:
            job.caller = self._holder.message.stream

    async def passed(self) -> None:
        """Wait until nothing runs alone."""
        while self._holder is not None:
            await self._free.wait()

    async def door(self, stream: str) -> None:
        """Wait with the requests of a stream until nothing runs alone, or somebody knocks there."""
        if self._holder is None:
            return
        future = self._knocks.get(stream)
        if future is None:
            future = self._knocks[stream] = asyncio.get_running_loop().create_future()
        await asyncio.shield(future)

    def knock(self, stream: str) -> None:
        """One more request has come to the stream; it may be one that is admitted."""
        future = self._knocks.pop(stream, None)
        if future is not None:
            future.set_result(None)

    async def enter(self, job: Job) -> None:
        """Wait for turns under way, at most their deadline, and keep others out until ``leave``."""
        while self._holder is not None and self._holder is not job:
            await self._free.wait()
        self._holder = job
        self._free.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._host.options.turn_deadline):
                while self._host.turns_running:
                    await asyncio.sleep(0.002)

    def leave(self, job: Job) -> bool:
        """Open the door again, if it was this job that had closed it; whether it was."""
        if self._holder is not job:
            return False
        self._holder = None
        self._free.set()
        for stream in list(self._knocks):
            self.knock(stream)
        return True
