"""Random queries over random documents, answered as the store in memory answers them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from loom.adapters.memory.documents import InMemoryDocumentStore
from loom.errors import UnindexedQueryError
from loom.plugins import LoomURL
from loom.ports.documents import Collection, Condition, DocumentStore, Put, Query
from loom_redis.client import Redis
from loom_redis.documents import RedisDocumentStore
from loom_redis.options import RedisOptions

COLLECTION = Collection("c", indexes=(("a", "b", "c"), ("b",), ("c", "a"), ("d",)))
VALUES: list[Any] = [
    None, True, False, 0, -0.0, 1, 1.5, -1, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 2**70, -1e300,
    "", "\x00", "\x00\xff", "a", "a\x00", "a\x00b", "ab", "é", "\uffff", "😀", [1], {"x": 1},
]  # fmt: skip
IDS = ["a", "a\x00", "a\x00\x00", "ab", "b", "é", "\uffff", "😀", "\x00", "\x10", "z" * 100]
PARTITIONS = ["p", "p\x00", "q", "é", "😀", "{x}"]


def body(rng: random.Random) -> dict[str, Any]:
    few = rng.random() < 0.5
    return {field: rng.choice([1, 2, "x"] if few else VALUES) for field in "abcd" if rng.random() < 0.85}


def query(rng: random.Random, partition: str | None) -> Query:
    """Mostly one that an index serves."""
    index = list(rng.choice(COLLECTION.indexes))
    where: list[Condition] = []
    order_by = None
    equal = rng.randrange(len(index) + 1)
    for field in index[:equal]:
        where.append(Condition(field, "==", rng.choice(VALUES[:-2]) if rng.random() < 0.4 else rng.choice([1, 2, "x"])))
        if rng.random() < 0.1:
            where.append(Condition(field, rng.choice(["==", "<", ">="]), rng.choice(VALUES[:-2])))
    if equal < len(index):
        for _ in range(rng.choice([0, 1, 1, 2])):
            where.append(Condition(index[equal], rng.choice(["<", "<=", ">", ">="]), rng.choice(VALUES[:-2])))
        if rng.random() < 0.5:
            order_by = index[equal]
    elif rng.random() < 0.3:
        order_by = rng.choice(index)
    if rng.random() < 0.05:
        order_by = rng.choice("abcd")
    rng.shuffle(where)
    return Query(
        partition=partition,
        where=tuple(where),
        order_by=order_by,
        descending=rng.random() < 0.5,
        limit=rng.choice([1, 2, 3, 7, 50]),
    )


async def walk(store: DocumentStore, asked: Query) -> list[tuple[str, str, dict[str, Any]]] | str:
    found: list[tuple[str, str, dict[str, Any]]] = []
    cursor: str | None = None
    while True:
        page = Query(
            partition=asked.partition, where=asked.where, order_by=asked.order_by, descending=asked.descending,
            limit=asked.limit, cursor=cursor,
        )  # fmt: skip
        try:
            answer = await store.query("c", page)
        except UnindexedQueryError:
            return "unindexed"
        found += [(d.partition, d.id, d.body) for d in answer.documents]
        assert len(answer.documents) == asked.limit or answer.cursor is None
        cursor = answer.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("seed", range(6))
async def test_random_queries(redis_url: str, seed: int) -> None:
    rng = random.Random(seed)
    model = InMemoryDocumentStore()
    async with RedisDocumentStore(Redis(RedisOptions.from_url(LoomURL.parse(redis_url)))) as store:
        for each in (store, model):
            await each.ensure([COLLECTION])
        found = 0
        for _ in range(20):
            for partition in PARTITIONS:
                ids = rng.sample(IDS, rng.randrange(len(IDS)))
                operations = [Put(id=id, body=body(rng)) for id in ids]
                for each in (store, model):
                    await each.batch("c", partition, operations)
                if rng.random() < 0.5:
                    for each in (store, model):
                        await each.delete("c", partition, ids[0] if ids else "none")
            for _ in range(25):
                asked = query(rng, rng.choice([None, None, *PARTITIONS]))
                expected = await walk(model, asked)
                assert await walk(store, asked) == expected, asked
                found += len(expected)
        assert found > 1000
