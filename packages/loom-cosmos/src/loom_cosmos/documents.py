"""Documents in Cosmos DB."""

from __future__ import annotations

from collections.abc import Sequence

from loom.adapters import document_rules as rules
from loom.clock import Clock
from loom.errors import DocumentConflictError, DocumentError, TooLargeError
from loom.ports.documents import Collection, Document, DocumentStore, Operation, Page, Put, Query, check_indexed
from loom.ports.port import check_key

from .adapter import CosmosAdapter
from .client import Cosmos, Item, Write, create, delete, replace, upsert
from .containers import DOCUMENTS, document_policy
from .document_items import MAX_BODY_BYTES, document_of, expired, item_names, item_of, server_etag
from .document_query import ask_of
from .failures import Refused
from .names import item_id, partition_key

__all__ = ["CosmosDocumentStore"]

_ATTEMPTS = 100


class CosmosDocumentStore(CosmosAdapter, DocumentStore):
    """A DocumentStore in one container; a partition of documents is a logical partition of Cosmos.

    A read is one point read, a batch one transactional batch. A query that names its partition is answered by that
    partition alone; others go over all. Reads by id and queries see every write reported before where the account's
    consistency is strong (or bounded staleness in one region); with session consistency each client sees its own
    writes, and what it was told by a conflict, and those of others a moment later. Conditions are always decided by
    the newest version. Expiry goes by ``clock``; the account deletes later.

    Text sorts by its first 1,024 bytes. An index that is declared later covers documents whose values were small
    (16 KiB a document); larger ones once they are written again.
    """

    container = DOCUMENTS
    max_bytes = MAX_BODY_BYTES

    def __init__(self, cosmos: Cosmos, *, clock: Clock | None = None) -> None:
        super().__init__(cosmos, clock=clock)
        self._collections: dict[str, Collection] = {}

    async def ensure(self, collections: Sequence[Collection]) -> None:
        """Also extends the container's indexing policy, which an account key may do and the data roles may not."""
        for collection in collections:
            rules.check_collection(collection)
        merged = [rules.merge(self._collections.get(each.name), each) for each in collections]
        indexes = [index for collection in merged for index in collection.indexes]
        if indexes:
            await self._cosmos.index(DOCUMENTS, document_policy(indexes))
        self._collections.update({collection.name: collection for collection in merged})

    async def get(self, collection: str, partition: str, id: str) -> Document | None:
        self._known(collection)
        check_key("partition", partition)
        check_key("id", id)
        item = await self._cosmos.read(DOCUMENTS, self._pk(collection, partition), item_id(id))
        return None if item is None or expired(item, self._clock.now()) else document_of(item)

    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        known = self._known(collection)
        rules.check_operations(collection, partition, operations)
        pk, now = self._pk(collection, partition), self._clock.now()
        writes: list[Write | None] = []
        items: list[Item | None] = []
        for operation in operations:
            etag = None if operation.if_match is None else server_etag(operation.if_match, now)
            if operation.if_match is not None and etag is None:
                raise _conflict(collection, partition, operation, f"not {operation.if_match}")
            if not isinstance(operation, Put):
                items.append(None)
                writes.append(delete(item_id(operation.id), etag))
                continue
            item = self._item(known, partition, pk, operation, now)
            items.append(item)
            if etag is not None:
                writes.append(replace(item, etag))
            else:
                writes.append(create(item) if operation.create_only else upsert(item))
        etags = await self._write(collection, partition, pk, operations, writes)
        results: list[Document | None] = []
        for written, etag in zip(items, etags, strict=True):
            results.append(None if written is None else document_of({**written, "_etag": etag}))
        return results

    async def query(self, collection: str, query: Query) -> Page:
        known = self._known(collection)
        rules.check_query(query)
        check_indexed(known, query)
        pk = None if query.partition is None else self._pk(collection, query.partition)
        scope = ("c", f"{self._cosmos.options.namespace}:{collection}") if pk is None else ("pk", pk)
        ask = ask_of(known, query, scope, self._clock.now())
        if ask is None:
            return Page([])
        found = await self._cosmos.query(DOCUMENTS, ask.text, ask.parameters, pk=pk, limit=query.limit + 1)
        documents = [document_of(item) for item in found[: query.limit]]
        more = len(found) > query.limit
        return Page(documents, rules.encode_cursor(documents[-1], query.order_by) if more else None)

    async def _write(
        self, collection: str, partition: str, pk: str, operations: Sequence[Operation], writes: list[Write | None]
    ) -> list[str]:
        """Carry out the batch, again where only a refusal by the account tells that an operation means another write.

        Deleting what is not there is refused by the account, and succeeds with us; creating is refused where a
        document has expired that the account still has.
        """
        for _ in range(_ATTEMPTS):
            sent = [index for index, write in enumerate(writes) if write is not None]
            etags = [""] * len(writes)
            if not sent:
                return etags
            try:
                found = await self._cosmos.write(DOCUMENTS, pk, [write for write in writes if write is not None])
            except Refused as refused:
                index = sent[refused.index]
                operation, write = operations[index], writes[index]
                assert write is not None
                if refused.status == 404 and operation.if_match is None and not isinstance(operation, Put):
                    writes[index] = None
                elif refused.status == 409 and isinstance(operation, Put) and operation.create_only:
                    writes[index] = await self._over_expired(collection, partition, pk, operation, write[1][0])
                elif operation.if_match is not None:
                    found_etag = None if refused.status == 404 else f"not {operation.if_match}"
                    raise _conflict(collection, partition, operation, found_etag) from None
                elif isinstance(operation, Put):
                    # An expired document that the account has deleted meanwhile, or an upsert that met another.
                    item = write[1][-1]
                    writes[index] = create(item) if operation.create_only else upsert(item)
            except TooLargeError as error:
                raise TooLargeError(str(error), collection=collection, partition=partition) from error
            else:
                for index, etag in zip(sent, found, strict=True):
                    etags[index] = etag
                return etags
        raise DocumentError(
            f"{collection}/{partition}: {_ATTEMPTS} attempts in a row met another writer; try again",
            collection=collection,
            partition=partition,
        )

    async def _over_expired(self, collection: str, partition: str, pk: str, operation: Put, item: Item) -> Write:
        found = await self._cosmos.read(DOCUMENTS, pk, item["id"])
        if found is None:
            return create(item)
        if expired(found, self._clock.now()):
            return replace(item, found["_etag"])
        raise _conflict(collection, partition, operation, found["_etag"]) from None

    def _item(self, known: Collection, partition: str, pk: str, operation: Put, now: float) -> Item:
        data, body = rules.encode_body(operation.body)
        if len(data) > MAX_BODY_BYTES:
            raise TooLargeError(
                f"{known.name}/{partition}/{operation.id}: a body of {len(data)} bytes is larger than the "
                f"{MAX_BODY_BYTES} that fit into an item of Cosmos DB; keep large values in a BlobStore",
                collection=known.name,
                partition=partition,
                id=operation.id,
                size=len(data),
            )
        ttl = known.ttl if operation.ttl is None else operation.ttl
        names = item_names(self._cosmos.options.namespace, known.name, operation.id, pk)
        declared = {field for index in known.indexes for field in index}
        expires_at = None if ttl is None else now + ttl
        return item_of(names, partition, operation.id, data, body, declared=declared, expires_at=expires_at, now=now)

    def _pk(self, collection: str, partition: str) -> str:
        return partition_key(self._cosmos.options.namespace, collection, partition)

    def _known(self, collection: str) -> Collection:
        if collection not in self._collections:
            raise rules.missing(collection)
        return self._collections[collection]


def _conflict(collection: str, partition: str, operation: Operation, found: str | None) -> DocumentConflictError:
    refusal = rules.conflict(collection, partition, operation, found)
    assert refusal is not None
    return refusal
