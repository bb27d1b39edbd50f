"""How the members of a fleet show that they live."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...clock import Clock

__all__ = ["HeartbeatLiveness", "Liveness"]


class Liveness(ABC):
    """A member's sign of life. What differs between kinds of coordination is this, and nothing else."""

    ttl: float | None = None
    """Seconds for which a record counts without a heartbeat; None where heartbeats mean nothing."""

    async def enter(self, member_id: str) -> None:
        """Begin to show a sign of life, before the member's record is written. May be repeated."""

    async def leave(self, member_id: str) -> None:
        """Stop showing it; harmless when there is none."""

    async def forget(self, member_id: str) -> None:
        """Remove what a dead member has left behind."""

    async def close(self) -> None:
        """Stop showing every sign that was begun here, as the end of the process would."""

    @abstractmethod
    async def dead(self, seen: dict[str, float]) -> set[str]:
        """Those of the members, given with the Unix time of their last heartbeat, that are dead."""


class HeartbeatLiveness(Liveness):
    """A member lives while its last heartbeat is younger than ``ttl``, by the clock of whoever asks."""

    def __init__(self, ttl: float, clock: Clock) -> None:
        if not ttl > 0:
            raise ValueError(f"member_ttl={ttl!r} must be positive")
        self.ttl: float = ttl
        self._clock = clock

    async def dead(self, seen: dict[str, float]) -> set[str]:
        now = self._clock.now()
        return {member_id for member_id, at in seen.items() if at + self.ttl <= now}
