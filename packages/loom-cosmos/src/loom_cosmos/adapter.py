"""What the adapters of this package have in common beyond their ports."""

from __future__ import annotations

from .client import Cosmos

__all__ = ["CosmosFacts"]


class CosmosFacts:
    """Mixed into an adapter that keeps its client in ``_cosmos``: it tells ``loom doctor`` what the account is like."""

    _cosmos: Cosmos

    async def facts(self) -> dict[str, str]:
        """Account, regions, consistency in words, request units spent. Raises StoreUnavailableError."""
        from .facts import facts_of

        return await facts_of(self._cosmos)
