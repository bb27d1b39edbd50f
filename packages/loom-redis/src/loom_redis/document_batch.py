"""One batch in one partition, until it is applied, refused, or not to be known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from loom.adapters import document_rules as rules
from loom.errors import DocumentError, StoreUnavailableError
from loom.ports.documents import Operation, Put

from .channel import Argument
from .client import Redis
from .document_index import Fields, members_of
from .document_keys import PartitionKeys
from .document_partitions import NO_TICKET, Partitions, Ticket
from .scripts import load_script

__all__ = ["Batches", "Change"]

_WRITE = load_script("documents_write")
_ATTEMPTS = 100
_KNOWN = 10_000


class Change(msgspec.Struct, frozen=True):
    """An operation and, for a put, what it will write. ``etag`` is empty for a delete."""

    operation: Operation
    etag: str = ""
    ttl: float | None = None
    data: bytes = b""
    body: dict[str, Any] = {}

    @property
    def check(self) -> str:
        """The condition as the script takes it; empty for none."""
        if isinstance(self.operation, Put) and self.operation.create_only:
            return "+"
        return "" if self.operation.if_match is None else f"={self.operation.if_match}"

    def arguments(self, schema: Sequence[Fields]) -> tuple[Argument, ...]:
        """What the script takes of it."""
        id, ttl = self.operation.id, "" if self.ttl is None else repr(self.ttl)
        members = members_of(schema, self.body, id) if schema and self.etag else b""
        return id, self.check, self.etag, ttl, members, self.data


class Batches:
    """Writes batches. ``now`` is what scripts take as the time, ``unique`` makes text that nobody else makes."""

    def __init__(self, redis: Redis, partitions: Partitions, now: Callable[[], str], unique: Callable[[], str]) -> None:
        self._redis = redis
        self._partitions = partitions
        self._now = now
        self._unique = unique
        self._opened: set[tuple[str, str]] = set()

    async def write(self, collection: str, partition: str, changes: Sequence[Change]) -> Sequence[bytes]:
        """Apply a batch. Returns when each of its documents expires, as the server says it; empty for never.

        Raises DocumentConflictError, and StoreUnavailableError.
        """
        keys = PartitionKeys.of(self._redis, collection, partition).all
        ticket, unknown = NO_TICKET, None
        try:
            if (collection, partition) not in self._opened and any(change.check == "+" for change in changes):
                # Whoever creates is often the first in the partition: that saves being told so.
                ticket = await self._register(collection, partition, changes, b"")
            for _ in range(_ATTEMPTS):
                schema = self._partitions.schema(collection)
                arguments: list[Argument] = [self._now(), len(schema), self._unique(), *ticket]
                for change in changes:
                    arguments += change.arguments(schema)
                try:
                    reply = await self._redis.run(_WRITE, keys, arguments)
                except StoreUnavailableError as error:
                    if not error.unknown:
                        raise
                    unknown = error
                    found = await self._find(keys[0], changes, error)
                    if found is not None:
                        return found
                    continue
                if reply == 1:
                    self._remember(collection, partition)
                    return [b""] * len(changes)
                what, *rest = reply
                if what == b"done":
                    await self._after(collection, partition, rest[0])
                    expiries: list[bytes] = rest[1:]
                    return expiries
                if what == b"conflict":
                    raise _refusal(collection, partition, changes[rest[0]].operation, rest[1])
                if what == b"stale":
                    await self._partitions.refresh(collection)
                else:
                    ticket = await self._register(collection, partition, changes, rest[0])
        except StoreUnavailableError as error:
            if unknown is not None and not error.unknown:
                raise unknown from error
            raise
        raise DocumentError(
            f"{collection}/{partition}: {_ATTEMPTS} attempts in a row met others that emptied the partition, added "
            "indexes or cut the connection; try again",
            collection=collection,
            partition=partition,
        )

    async def purge(self, collection: str, partition: str) -> None:
        """Delete some of what has expired."""
        keys = PartitionKeys.of(self._redis, collection, partition).all
        reply = await self._redis.run(_WRITE, keys, [self._now(), 0, self._unique(), *NO_TICKET], repeatable=True)
        if reply != 1:
            await self._after(collection, partition, reply[1])

    async def _register(self, collection: str, partition: str, changes: Sequence[Change], state: bytes) -> Ticket:
        lives = [change.ttl for change in changes if change.etag]
        longest = None if None in lives else max(ttl for ttl in lives if ttl is not None)
        return await self._partitions.register(collection, partition, longest, state)

    async def _find(self, key: str, changes: Sequence[Change], error: StoreUnavailableError) -> list[bytes] | None:
        """What a batch whose reply was lost has written, or None when it may be sent again; else raises ``error``.

        ETags are unique and a batch is whole or absent, so one that is found was applied. Where it is not, it may yet
        be on its way. Puts without a condition are sent again even so, since they overwrite whatever there is.
        """
        puts = [change for change in changes if change.etag]
        if not puts or self._redis.options.wait_replicas or self._redis.options.wait_aof:
            raise error  # with waiting, what is not known may be whether it stays
        ids = [change.operation.id for change in puts]
        try:
            records = await self._redis.call("HMGET", key, *ids, key=key, repeatable=True)
        except StoreUnavailableError:
            raise error from None
        found = [(record or b";;").split(b";", 2) for record in records]
        if any(etag.decode() == change.etag for (etag, *_), change in zip(found, puts, strict=True)):
            expiries = {id: expires for id, (_, expires, _) in zip(ids, found, strict=True)}
            return [expiries.get(change.operation.id, b"") for change in changes]
        if len(puts) < len(changes) or any(change.check for change in puts):
            raise error
        return None

    async def _after(self, collection: str, partition: str, token: bytes) -> None:
        """Take the partition off the list if the reply says that it is empty now."""
        if not token:
            self._remember(collection, partition)
            return
        self._opened.discard((collection, partition))
        with contextlib.suppress(StoreUnavailableError):  # a query that meets the empty partition does it then
            await self._partitions.forget(collection, [(partition, token)])

    def _remember(self, collection: str, partition: str) -> None:
        if len(self._opened) >= _KNOWN:
            self._opened.clear()
        self._opened.add((collection, partition))


def _refusal(collection: str, partition: str, operation: Operation, etag: bytes | None) -> DocumentError:
    refusal = rules.conflict(collection, partition, operation, None if etag is None else etag.decode())
    assert refusal is not None
    return refusal
