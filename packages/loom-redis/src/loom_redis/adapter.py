"""What the adapters of this package have in common beyond their ports."""

from __future__ import annotations

from .client import Redis

__all__ = ["RedisFacts"]


class RedisFacts:
    """Mixed into an adapter that keeps its client in ``_redis``: it tells ``loom doctor`` what the server is like."""

    _redis: Redis

    async def facts(self) -> dict[str, str]:
        """Version, role, persistence in words, memory, round trip, and what to change. Raises StoreUnavailableError."""
        from .facts import facts_of

        return await facts_of(self._redis)
