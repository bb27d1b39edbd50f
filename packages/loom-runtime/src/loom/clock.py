"""Where time comes from. Every component is handed a Clock, so that a test can own time."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod

__all__ = ["Clock", "SystemClock"]


class Clock(ABC):
    """Wall time for what is stored, monotonic time for what is waited for; both in seconds."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since the Unix epoch. May jump backwards: compare stored times, never measure with it."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes backwards within a process."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return when ``seconds`` of monotonic time have passed; at once for zero or less."""


class SystemClock(Clock):
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
