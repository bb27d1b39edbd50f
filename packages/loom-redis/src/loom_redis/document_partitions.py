"""The partitions of a collection: their list, for queries over all of them, and the indexes that each must keep.

The list lies in another slot than the partitions, so a document and its partition's entry are two writes. A partition
is registered first and opened by its first document, with a *ticket* that the registration gave. Whoever takes an
empty partition off the list, or adds an index, leaves a marker in the partition: a ticket from before is void, and so
no document can end up in a partition that is not listed or lacks an index. A marker lives 30 seconds and a ticket 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import NamedTuple

import msgspec

from loom.errors import DocumentError
from loom.ports.documents import Collection

from .channel import Argument
from .client import Redis
from .document_index import BY_ID, Fields, expand, members_of
from .document_keys import CollectionKeys, PartitionKeys
from .scripts import load_script

__all__ = ["NO_TICKET", "Partitions", "Ticket"]

_REGISTER = load_script("documents_register")
_UNREGISTER = load_script("documents_unregister")
_SCHEMA = load_script("documents_schema")
_DEMAND = load_script("documents_demand")
_REINDEX = load_script("documents_reindex")
_READ = load_script("documents_read", writes=False)

_ATTEMPTS = 100
_NAMES = 1000
_REINDEXED = 200
_AT_ONCE = 32


class Ticket(NamedTuple):
    """The right to write the first document of a partition, or one that lives longer than all before.

    ``time`` is the server's when it was given, ``state`` what the partition was in, ``due`` until when the partition
    is listed, ``token`` the registration.
    """

    time: bytes
    state: bytes
    due: bytes
    token: bytes


NO_TICKET = Ticket(b"", b"", b"", b"")


class Partitions:
    """``now`` is what scripts take as the time, ``unique`` makes text that nobody else makes."""

    def __init__(self, redis: Redis, now: Callable[[], str], unique: Callable[[], str]) -> None:
        self._redis = redis
        self._now = now
        self._unique = unique
        self._schemas: dict[str, tuple[Fields, ...]] = {}

    def schema(self, collection: str) -> tuple[Fields, ...]:
        """The indexes to keep, as last heard from the server; an index's number is its place."""
        return self._schemas.get(collection, ())

    async def ensure(self, collection: Collection) -> None:
        """Make the collection have these indexes, those that were there included, over all its documents."""
        keys = CollectionKeys.of(self._redis, collection.name)
        found, filled = await self._redis.call(
            "HMGET", keys.schema, "indexes", "filled", key=keys.schema, repeatable=True
        )
        wanted = expand(collection.indexes)
        for _ in range(_ATTEMPTS):
            known = _decode(found)
            schema = tuple(dict.fromkeys((*known, *wanted)))
            if schema == known:
                break
            arguments = [found or b"[]", msgspec.json.encode(schema)]
            found = await self._redis.run(_SCHEMA, [keys.schema], arguments, repeatable=True)
        else:
            raise DocumentError(f"{collection.name}: {_ATTEMPTS} others changed its indexes; try again")
        self._schemas[collection.name] = schema
        if int(filled or 0) < len(schema):
            await self._fill(collection.name, schema)
            await self._redis.call("HSET", keys.schema, "filled", len(schema), key=keys.schema, repeatable=True)

    async def refresh(self, collection: str) -> None:
        """Hear of indexes that others have added."""
        key = CollectionKeys.of(self._redis, collection).schema
        await self._heard(collection, await self._redis.call("HGET", key, "indexes", key=key, repeatable=True))

    async def register(self, collection: str, partition: str, ttl: float | None, state: bytes) -> Ticket:
        """List the partition for as long as a document of this life needs. ``state`` is what it was found in."""
        keys, token = CollectionKeys.of(self._redis, collection), self._unique().encode()
        time, due, indexes = await self._redis.run(
            _REGISTER,
            [keys.names, keys.dues, keys.tokens, keys.schema],
            [self._now(), partition, "" if ttl is None else repr(ttl), token],
            repeatable=True,
        )
        await self._heard(collection, indexes)
        return Ticket(time, state, due, token)

    async def _heard(self, collection: str, indexes: bytes | None) -> None:
        schema, known = _decode(indexes), self.schema(collection)
        if len(schema) < len(known):
            # The server has lost what it had acknowledged: without this the indexes would miss what comes from now on.
            await self.ensure(Collection(collection, known))
        else:
            self._schemas[collection] = schema

    async def names(
        self, collection: str, *, start: str = "", backwards: bool = False, most: int = _NAMES
    ) -> AsyncIterator[list[str]]:
        """Lists of partitions in order, ``start`` included. They may be empty by now."""
        key = CollectionKeys.of(self._redis, collection).names
        first, last, order = (b"+", b"-", ("BYLEX", "REV")) if backwards else (b"-", b"+", ("BYLEX",))
        if start:
            first = b"[" + start.encode()
        while True:
            found: list[bytes] = await self._redis.call(
                "ZRANGE", key, first, last, *order, "LIMIT", 0, most, key=key, repeatable=True
            )
            if found:
                yield [name.decode() for name in found]
            if len(found) < most:
                return
            first = b"(" + found[-1]

    async def forget(self, collection: str, tokens: Iterable[tuple[str, bytes]]) -> None:
        """Take partitions off the list that were empty after these tokens were registered, if nobody came since."""
        keys = CollectionKeys.of(self._redis, collection)
        arguments = [part for partition, token in tokens for part in (partition, token)]
        if arguments:
            await self._redis.run(_UNREGISTER, [keys.names, keys.dues, keys.tokens], arguments, repeatable=True)

    async def drop_empty(self, collection: str, partitions: list[str]) -> None:
        """Take those partitions off the list that hold nothing."""
        key = CollectionKeys.of(self._redis, collection).tokens
        tokens: list[bytes | None] = await self._redis.call("HMGET", key, *partitions, key=key, repeatable=True)
        holding = await asyncio.gather(*(self._demand(collection, partition, 0) for partition in partitions))
        listed = zip(partitions, tokens, holding, strict=True)
        await self.forget(collection, [(name, token) for name, token, held in listed if token is not None and not held])

    async def _demand(self, collection: str, partition: str, version: int) -> int:
        keys = PartitionKeys.of(self._redis, collection, partition)
        arguments: list[Argument] = [version, self._unique()]
        held: int = await self._redis.run(_DEMAND, [keys.documents, keys.marker], arguments, repeatable=True)
        return held

    async def _fill(self, collection: str, schema: tuple[Fields, ...]) -> None:
        """Every partition that is registered later has the new indexes from the start."""
        async for names in self.names(collection, most=_AT_ONCE):
            await asyncio.gather(*(self._fill_partition(collection, name, schema) for name in names))

    async def _fill_partition(self, collection: str, partition: str, schema: tuple[Fields, ...]) -> None:
        if not await self._demand(collection, partition, len(schema)):
            return
        keys = PartitionKeys.of(self._redis, collection, partition)
        position: bytes | None = b"[" + BY_ID
        while position is not None:
            arguments: list[Argument] = [self._now(), position, b"[" + BY_ID + b"\xff", 0, _REINDEXED, len(BY_ID), 0]
            reply = await self._redis.run(_READ, [keys.documents, keys.order], arguments, repeatable=True)
            if reply == -1:
                return
            _, last, *records = reply
            changes: list[bytes] = []
            for id, record in zip(records[::2], records[1::2], strict=True):
                etag, _, body = record.split(b";", 2)
                changes += (id, etag, members_of(schema, msgspec.json.decode(body), id.decode()))
            if changes:
                await self._redis.run(_REINDEX, [keys.documents, keys.order, keys.members], changes, repeatable=True)
            position = b"(" + last if last else None


def _decode(indexes: bytes | None) -> tuple[Fields, ...]:
    return msgspec.json.decode(indexes or b"[]", type=tuple[Fields, ...])
