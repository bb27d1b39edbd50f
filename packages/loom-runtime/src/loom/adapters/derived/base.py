"""What the ports built over a DocumentStore share."""

from __future__ import annotations

from typing import ClassVar

from ...ports.documents import Collection, DocumentStore
from ...ports.port import Port

__all__ = ["DerivedStore"]


class DerivedStore(Port):
    """A port over a DocumentStore.

    ``start`` starts the store and makes the collections exist. ``close`` closes the store only where ``owned`` says
    that nobody else uses it: several ports may share one.
    """

    collections: ClassVar[tuple[Collection, ...]] = ()

    def __init__(self, documents: DocumentStore, *, owned: bool = False) -> None:
        self._documents = documents
        self._owned = owned
        self._started = False

    async def start(self) -> None:
        if self._started:
            return
        await self._documents.start()
        try:
            await self._documents.ensure(self.collections)
        except BaseException:
            if self._owned:
                await self._documents.close()
            raise
        self._started = True

    async def close(self) -> None:
        if self._started:
            self._started = False
            if self._owned:
                await self._documents.close()
