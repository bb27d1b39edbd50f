"""What the adapters of this package have in common beyond their ports."""

from __future__ import annotations

from typing import ClassVar, Self

from loom.clock import Clock, SystemClock
from loom.plugins import AdapterContext, LoomURL
from loom.ports.port import Port

from .client import Cosmos, cosmos_from_url
from .containers import ContainerSpec

__all__ = ["CosmosAdapter", "CosmosFacts"]


class CosmosFacts:
    """Mixed into an adapter that keeps its client in ``_cosmos``: it tells ``loom doctor`` what the account is like."""

    _cosmos: Cosmos

    async def facts(self) -> dict[str, str]:
        """Account, regions, consistency in words, request units spent. Raises StoreUnavailableError."""
        from .facts import facts_of

        return await facts_of(self._cosmos)


class CosmosAdapter(CosmosFacts, Port):
    """The life of an adapter over a ``Cosmos``, which counts its users: the last one closes it."""

    container: ClassVar[ContainerSpec]
    """Where its items lie; made when it is missing."""

    def __init__(self, cosmos: Cosmos, *, clock: Clock | None = None) -> None:
        self._cosmos = cosmos
        self._clock = clock or SystemClock()
        self._started = False

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``cosmos://ACCOUNT.documents.azure.com/DATABASE``; see ``CosmosOptions``."""
        return cls(cosmos_from_url(url, context), clock=context.clock)

    async def start(self) -> None:
        if self._started:
            return
        await self._cosmos.start()
        try:
            await self._cosmos.use(self.container)
        except BaseException:
            await self._cosmos.close()
            raise
        self._started = True

    async def close(self) -> None:
        if self._started:
            self._started = False
            await self._drain()
            await self._cosmos.close()

    async def _drain(self) -> None:
        """As it is closed, for the last time with the account: end what is under way."""
