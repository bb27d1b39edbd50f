"""The keys of a partition and of a collection. Each has a slot of its own; no script touches two."""

from __future__ import annotations

import msgspec

from .client import Redis

__all__ = ["CollectionKeys", "PartitionKeys"]


class PartitionKeys(msgspec.Struct, frozen=True):
    """``documents``: a hash of records by id, and under the empty id what the partition says of itself;
    ``order``: the sorted set of ids and index members; ``members``: what each document has in there;
    ``expiries``: ids by expiry; ``marker``: says for a while that the partition was emptied.
    """  # fmt: skip

    documents: str
    order: str
    members: str
    expiries: str
    marker: str

    @classmethod
    def of(cls, redis: Redis, collection: str, partition: str) -> PartitionKeys:
        """A collection's name holds no slash, so the first one ends it."""
        base = redis.key("document", f"{collection}/{partition}", "")
        return cls(base + "records", base + "order", base + "members", base + "expiries", base + "marker")

    @property
    def all(self) -> tuple[str, str, str, str, str]:
        """As the scripts take them."""
        return self.documents, self.order, self.members, self.expiries, self.marker


class CollectionKeys(msgspec.Struct, frozen=True):
    """``names``: the sorted set of partitions; ``dues``: until when they are listed, where not for ever; ``tokens``:
    who registered each last; ``schema``: the indexes.
    """  # fmt: skip

    names: str
    dues: str
    tokens: str
    schema: str

    @classmethod
    def of(cls, redis: Redis, collection: str) -> CollectionKeys:
        """The keys of one collection."""
        base = redis.key("documents", collection, "")
        return cls(base + "names", base + "dues", base + "tokens", base + "schema")
