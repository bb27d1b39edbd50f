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
    """One suspicious request at a time; others wait at the door, except calls that it makes itself."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._holder: Job | None = None
        self._free = asyncio.Event()
        self._free.set()

    @property
    def busy(self) -> bool:
        """Whether something runs, or waits to run, alone."""
        return self._holder is not None

    async def passed(self) -> None:
        """Wait until nothing runs alone."""
        while self._holder is not None:
            await self._free.wait()

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
        return True
