"""DocumentStore: JSON documents by collection, partition and id, with ETags, TTL and atomic batches."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..errors import PortError, UnindexedQueryError
from .port import Port

__all__ = [
    "Collection",
    "Condition",
    "Delete",
    "Document",
    "DocumentStore",
    "Operation",
    "Page",
    "Put",
    "Query",
    "check_indexed",
]

Scalar = str | int | float | bool | None


class Collection(msgspec.Struct, frozen=True):
    """A named set of documents and the top-level fields it can be queried by.

    Each element of ``indexes`` is a tuple of field names; an index serves queries that compare its leading fields for
    equality and, at most, the field after them by range or order. ``ttl`` is the default life of a document in
    seconds; None keeps it. Names are ``[a-z][a-z0-9_]*``.
    """

    name: str
    indexes: tuple[tuple[str, ...], ...] = ()
    ttl: float | None = None


class Document(msgspec.Struct, frozen=True, gc=False):
    """A stored document. ``etag`` changes with every write; ``expires_at`` is Unix time or None."""

    partition: str
    id: str
    body: dict[str, Any]
    etag: str
    expires_at: float | None = None


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write a document.

    ``if_match`` (an etag) replaces only that version; ``create_only`` writes only where nothing is; neither
    overwrites. ``ttl`` seconds from now it is gone; None means the collection's default.
    """

    id: str
    body: dict[str, Any]
    if_match: str | None = None
    create_only: bool = False
    ttl: float | None = None


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a document; deleting what is not there succeeds, unless ``if_match`` was given."""

    id: str
    if_match: str | None = None


Operation = Put | Delete


class Condition(msgspec.Struct, frozen=True):
    """``field op value`` on a top-level field. A document without the field, or with null, matches no condition."""

    field: str
    op: Literal["==", "<", "<=", ">", ">="]
    value: Scalar


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents, in which order. Without ``partition`` the query goes over all partitions.

    ``order_by`` is a field, or None for the order of (partition, id). Ties are broken by (partition, id). Numbers
    compare as numbers, text by code point; ``order_by`` leaves out documents without the field.
    """

    partition: str | None = None
    where: tuple[Condition, ...] = ()
    order_by: str | None = None
    descending: bool = False
    limit: int = 100
    cursor: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Documents of one page; ``cursor`` continues after them, None at the end."""

    documents: list[Document]
    cursor: str | None = None


class DocumentStore(Port):
    """Documents are JSON objects (str keys; str, int, float, bool, None, lists and objects; no NaN, no infinities).

    Consistency: reads by id see every write reported before. Queries do so within one partition too; across
    partitions they may lag. An expired document is never returned by any method, from the moment it expires.
    Paging neither repeats nor skips a document that exists unchanged during the whole walk, whatever is written
    meanwhile.
    """

    max_bytes: int | None = None
    """The most bytes that a body may have as JSON; None where nothing but memory limits them."""

    @abstractmethod
    async def ensure(self, collections: Sequence[Collection]) -> None:
        """Make the collections exist with their indexes. Idempotent; must precede any other use of them."""

    @abstractmethod
    async def get(self, collection: str, partition: str, id: str) -> Document | None:
        """The document, or None."""

    @abstractmethod
    async def batch(self, collection: str, partition: str, operations: Sequence[Operation]) -> list[Document | None]:
        """Apply all operations in one partition atomically: all of them or, if any fails, none.

        Up to 100 operations; returns what each wrote (None for a delete). An id may appear once. Raises
        DocumentConflictError, naming the id, when an ``if_match`` or ``create_only`` does not hold; TooLargeError for
        more operations or a body above ``max_bytes``; ValueError for a body that is not JSON.
        """

    async def batch_many(
        self, collection: str, batches: Sequence[tuple[str, Sequence[Operation]]]
    ) -> list[list[Document | None] | PortError]:
        """Apply several batches, ``(partition, operations)`` each, as ``batch`` does and each for itself.

        One outcome per batch, in their order: what it wrote, or the error that it would have raised. Batches of one
        partition are applied in their order. ValueError and InvalidKeyError for any of them are raised before anything
        is applied where the store can tell, and may come after others were applied where it can't.
        """
        outcomes: list[list[Document | None] | PortError] = [[]] * len(batches)

        async def apply(partition: str, indexes: list[int]) -> None:
            for index in indexes:
                try:
                    outcomes[index] = await self.batch(collection, partition, batches[index][1])
                except PortError as error:
                    outcomes[index] = error

        partitions: dict[str, list[int]] = {}
        for index, (partition, _) in enumerate(batches):
            partitions.setdefault(partition, []).append(index)
        await asyncio.gather(*(apply(partition, indexes) for partition, indexes in partitions.items()))
        return outcomes

    async def put(
        self,
        collection: str,
        partition: str,
        id: str,
        body: dict[str, Any],
        *,
        if_match: str | None = None,
        create_only: bool = False,
        ttl: float | None = None,
    ) -> Document:
        """Write one document; see ``Put`` and ``batch``."""
        operation = Put(id=id, body=body, if_match=if_match, create_only=create_only, ttl=ttl)
        [document] = await self.batch(collection, partition, [operation])
        assert document is not None
        return document

    async def delete(self, collection: str, partition: str, id: str, *, if_match: str | None = None) -> None:
        """Delete one document; see ``Delete`` and ``batch``."""
        await self.batch(collection, partition, [Delete(id=id, if_match=if_match)])

    @abstractmethod
    async def query(self, collection: str, query: Query) -> Page:
        """One page of documents. Raises UnindexedQueryError when no declared index serves the query."""


def check_indexed(collection: Collection, query: Query) -> None:
    """Raise UnindexedQueryError unless an index of ``collection`` serves ``query``: every adapter calls it.

    A query with neither conditions nor order needs none.
    """
    equal = {condition.field for condition in query.where if condition.op == "=="}
    ranged = {condition.field for condition in query.where if condition.op != "=="} - equal
    if query.order_by is not None and query.order_by not in equal:
        ranged.add(query.order_by)
    wanted = equal | ranged
    if not wanted:
        return
    if len(ranged) <= 1:
        for index in collection.indexes:
            leading, after = set(index[: len(equal)]), index[len(equal) : len(equal) + len(ranged)]
            if leading == equal and set(after) == ranged:
                return
    fields = ", ".join(sorted(equal) + sorted(ranged))
    declared = "; ".join("(" + ", ".join(index) + ")" for index in collection.indexes) or "none"
    raise UnindexedQueryError(
        f"collection {collection.name!r} has no index for a query by ({fields}); declared: {declared}. "
        "Declare Collection(indexes=…) with the fields compared for equality first, then the one range or order field",
        collection=collection.name,
        fields=sorted(wanted),
    )
