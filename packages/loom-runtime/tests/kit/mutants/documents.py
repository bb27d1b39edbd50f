"""Document stores, each broken in one way. The stores built over documents are broken by some of them, too."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import msgspec

from loom.adapters.memory.documents import InMemoryDocumentStore, _Name, _Stored, _Table
from loom.errors import UnindexedQueryError
from loom.ports.documents import Collection, Delete, Document, Operation, Page, Put, Query


class BatchesAreNotAtomic(InMemoryDocumentStore):
    """Carries out the operations one by one, up to the one that fails."""

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        written: list[Document | None] = []
        for operation in operations:
            written += await super().batch(collection, partition, [operation])
        return written


class IgnoresEtags(InMemoryDocumentStore):
    """Writes over whatever version is there."""

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        blind = [msgspec.structs.replace(operation, if_match=None) for operation in operations]
        return await super().batch(collection, partition, blind)


class EtagsComeFromTheBody(InMemoryDocumentStore):
    """Gives the same body the same etag: a value that changed and changed back looks untouched."""

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        written = await super().batch(collection, partition, operations)
        rows = self._world.tables[collection].rows
        for n, document in enumerate(written):
            if document is not None:
                etag = hashlib.sha256(msgspec.json.encode(document.body)).hexdigest()
                name = (partition, document.id)
                rows[name] = msgspec.structs.replace(rows[name], etag=etag)
                written[n] = rows[name].document(name)
        return written


class TakesWhatIsTooLarge(InMemoryDocumentStore):
    """Names a limit that it does not look at."""

    max_bytes = 1000


class CreateOnlyOverwrites(InMemoryDocumentStore):
    """Takes ``create_only`` for a hint."""

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        blind = [
            operation if isinstance(operation, Delete) else msgspec.structs.replace(operation, create_only=False)
            for operation in operations
        ]
        return await super().batch(collection, partition, blind)


class ComparesBeforeItWaits(InMemoryDocumentStore):
    """Checks the conditions, does something else, and then writes."""

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        fits = True
        for operation in operations:
            found = await self.get(collection, partition, operation.id)
            fits = fits and (operation.if_match is None or (found is not None and found.etag == operation.if_match))
        await asyncio.sleep(0)
        if fits:
            operations = [msgspec.structs.replace(operation, if_match=None) for operation in operations]
        return await super().batch(collection, partition, operations)


class _Immortal(_Table):
    def get(self, name: _Name, now: float) -> _Stored | None:
        return self.rows.get(name)

    def prune(self, now: float) -> None:
        pass


class NothingExpires(InMemoryDocumentStore):
    """Stores when a document ends, and leaves it at that."""

    async def ensure(self, collections: Sequence[Collection]) -> None:
        for collection in collections:
            self._world.tables.setdefault(collection.name, _Immortal())
        await super().ensure(collections)


class QueriesFindTheExpired(InMemoryDocumentStore):
    """Hides an expired document from a read by its id, and not from a query."""

    async def query(self, collection: str, query: Query) -> Page:
        table = self._world.tables[collection]
        self._world.tables[collection] = shown = _Immortal()
        shown.rows, shown.names = table.rows, table.names
        try:
            return await super().query(collection, query)
        finally:
            self._world.tables[collection] = table


class PagesByOffset(InMemoryDocumentStore):
    """Skips as many documents as it has shown: those written or deleted before that place shift the rest."""

    async def query(self, collection: str, query: Query) -> Page:
        offset = int(query.cursor or "0")
        whole = await super().query(collection, msgspec.structs.replace(query, cursor=None, limit=10**9))
        end = offset + query.limit
        return Page(whole.documents[offset:end], str(end) if end < len(whole.documents) else None)


class ScansWithoutAnIndex(InMemoryDocumentStore):
    """Serves any query, by reading everything: quick in tests, and ruinous with a million documents."""

    async def query(self, collection: str, query: Query) -> Page:
        try:
            return await super().query(collection, query)
        except UnindexedQueryError:
            return await super().query(collection, msgspec.structs.replace(query, where=(), order_by=None))


class NumbersAreText(InMemoryDocumentStore):
    """Orders 10 before 9."""

    async def query(self, collection: str, query: Query) -> Page:
        page = await super().query(collection, query)
        field = query.order_by
        if field is not None:
            page.documents.sort(key=lambda document: str(document.body[field]), reverse=query.descending)
        return page


class HandsOutWhatItStores(InMemoryDocumentStore):
    """Lets a reader change the stored body in passing."""

    async def get(self, collection: str, partition: str, id: str) -> Document | None:
        found = await super().get(collection, partition, id)
        row = self._world.tables[collection].rows.get((partition, id))
        return found if found is None or row is None else msgspec.structs.replace(found, body=row.body)

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        written = await super().batch(collection, partition, operations)
        rows = self._world.tables[collection].rows
        for operation in operations:
            if isinstance(operation, Put):
                name = (partition, operation.id)
                rows[name] = msgspec.structs.replace(rows[name], body=operation.body)
        return written


class IsNotDurable(InMemoryDocumentStore):
    """Declares that it is, and keeps everything in the process."""

    async def close(self) -> None:
        self._world.tables.clear()
