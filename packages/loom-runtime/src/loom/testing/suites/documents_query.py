"""Queries of a DocumentStore: conditions, kinds of values, orders, indexes, paging."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from ...errors import UnindexedQueryError
from ...ports.documents import Collection, Condition, Document, DocumentStore, Query
from .base import Harness, Suite, scenario

__all__ = ["DocumentQuerySuite"]

H = Harness[DocumentStore]

INDEXED = Collection("indexed", indexes=(("status", "at"), ("at",), ("value",), ("Value",), ("a.b",)))
NUMBERS: list[Any] = [-(2**60), -1.5, -1, 0, 0.25, 1, 1.5, 10, 9007199254740993, 1e300]
TEXTS = ["", "\x00", "1", "10", "9", "A", "a", "a\x00", "a\x00b", "ab", "b", "é", "\uffff", "😀"]

Op = Literal["==", "<", "<=", ">", ">="]
OPS: tuple[Op, ...] = ("==", "<", "<=", ">", ">=")


async def walk(store: DocumentStore, query: Query, collection: str = "indexed") -> list[Document]:
    """All documents of a query, page by page."""
    found: list[Document] = []
    while True:
        page = await store.query(collection, query)
        assert len(page.documents) <= query.limit
        found += page.documents
        await asyncio.sleep(0)  # an adapter that never waits would keep the writers of a test from their turn
        if page.cursor is None:
            return found
        query = Query(
            partition=query.partition,
            where=query.where,
            order_by=query.order_by,
            descending=query.descending,
            limit=query.limit,
            cursor=page.cursor,
        )


def _holds(op: Op, have: Any, want: Any) -> bool:
    if op == "==":
        return bool(have == want)
    if op in ("<", "<="):
        return bool(have < want) or (op == "<=" and bool(have == want))
    return bool(have > want) or (op == ">=" and bool(have == want))


class DocumentQuerySuite(Suite[DocumentStore]):
    """What a query finds, and in which order."""

    @scenario()
    async def test_numbers_compare_as_numbers_and_text_by_code_point(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        values = [*NUMBERS, *TEXTS]
        for n, value in enumerate(values):
            await h.adapter.put("indexed", "p", str(n), {"value": value})
        for same_kind in (NUMBERS, TEXTS):
            for want in same_kind:
                for op in OPS:
                    page = await h.adapter.query("indexed", Query(where=(Condition("value", op, want),)))
                    expected = [value for value in same_kind if _holds(op, value, want)]
                    assert {d.body["value"] for d in page.documents} == set(expected), (op, want)
        ordered = [document.body["value"] for document in await walk(h.adapter, Query(order_by="value", limit=5))]
        assert [value for value in ordered if not isinstance(value, str)] == sorted(NUMBERS)
        assert [value for value in ordered if isinstance(value, str)] == sorted(TEXTS)

    @scenario()
    async def test_values_of_other_kinds_never_match(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        bodies: list[dict[str, Any]] = [
            {"value": 1}, {"value": "1"}, {"value": True}, {"value": False}, {"value": 0}, {"value": None}, {},
            {"value": [1]}, {"value": {"value": 1}}, {"Value": 1}, {"value": "true"},
        ]  # fmt: skip
        for n, body in enumerate(bodies):
            await h.adapter.put("indexed", "p", f"{n:02}", body)

        async def found(op: Op, value: Any) -> list[int]:
            return [int(d.id) for d in await walk(h.adapter, Query(where=(Condition("value", op, value),)))]

        assert await found("==", 1) == [0]
        assert await found("==", 1.0) == [0]
        assert await found("==", "1") == [1]
        assert await found("==", True) == [2]
        assert await found("==", False) == [3]
        assert sorted(await found(">=", 0)) == [0, 4]
        assert sorted(await found("<", 5)) == [0, 4]
        assert sorted(await found(">=", "")) == [1, 10]
        for op in OPS:
            assert await found(op, None) == []
        [other] = await walk(h.adapter, Query(where=(Condition("Value", "==", 1),)))
        assert other.id == "09"

    @scenario()
    async def test_order_leaves_out_documents_without_the_field(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        for id, body in (("a", {"at": 2}), ("b", {}), ("c", {"at": None}), ("d", {"at": 1}), ("e", {"at": 2})):
            await h.adapter.put("indexed", "p", id, body)
        assert [d.id for d in await walk(h.adapter, Query(order_by="at", limit=1))] == ["d", "a", "e"]
        assert [d.id for d in await walk(h.adapter, Query())] == ["a", "b", "c", "d", "e"]

    @scenario()
    async def test_conditions_orders_and_partitions_together(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        bodies = {
            (f"p{n % 3}", f"{n:03}"): {"status": ("on", "off")[n % 2], "at": n * 7 % 11, "value": n} for n in range(60)
        }
        await asyncio.gather(*(h.adapter.put("indexed", *name, body) for name, body in bodies.items()))
        queries = [
            ((Condition("status", "==", "on"),), None),
            ((Condition("status", "==", "on"),), "at"),
            ((Condition("status", "==", "off"), Condition("at", ">", 3)), None),
            ((Condition("status", "==", "off"), Condition("at", ">", 3), Condition("at", "<=", 8)), "at"),
            ((Condition("status", "==", "on"), Condition("at", "==", 4)), "at"),
            ((Condition("at", ">=", 5),), "at"),
            ((), "value"),
            ((), None),
        ]
        for where, order_by in queries:
            for partition in (None, "p1", "nowhere"):
                expected = sorted(
                    (bodies[name][order_by] if order_by else 0, *name)
                    for name in bodies
                    if (partition is None or name[0] == partition)
                    and all(_holds(c.op, bodies[name][c.field], c.value) for c in where)
                )
                for descending in (False, True):
                    for limit in (7, 100):
                        query = Query(
                            partition=partition, where=where, order_by=order_by, descending=descending, limit=limit
                        )
                        found = await walk(h.adapter, query)
                        names = [(d.body[order_by] if order_by else 0, d.partition, d.id) for d in found]
                        assert names == (expected[::-1] if descending else expected), query
                        assert all(d.body == bodies[d.partition, d.id] for d in found)

    @scenario()
    async def test_what_is_found_follows_each_write(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        on = Query(partition="p", where=(Condition("status", "==", "on"),))
        await h.adapter.put("indexed", "p", "a", {"status": "on"})
        assert len(await walk(h.adapter, on)) == 1
        await h.adapter.put("indexed", "p", "a", {"status": "off"})
        assert await walk(h.adapter, on) == []
        again = await h.adapter.put("indexed", "p", "a", {"status": "on", "at": 1})
        assert await walk(h.adapter, on) == [again]
        await h.adapter.delete("indexed", "p", "a")
        assert await walk(h.adapter, on) == []

    @scenario()
    async def test_field_names_are_not_paths(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        await h.adapter.put("indexed", "p", "nested", {"a": {"b": 1}})
        flat = await h.adapter.put("indexed", "p", "flat", {"a.b": 1})
        assert await walk(h.adapter, Query(where=(Condition("a.b", "==", 1),))) == [flat]

    @scenario()
    async def test_an_index_declared_later_covers_what_was_there(self, h: H) -> None:
        await h.adapter.ensure([Collection("grown")])
        for n in range(5):
            await h.adapter.put("grown", "p", str(n), {"n": 5 - n, "text": str(n)})
        await h.adapter.ensure([Collection("grown", indexes=(("n",),))])
        await h.adapter.put("grown", "p", "new", {"n": 3.5})
        found = await walk(h.adapter, Query(order_by="n"), "grown")
        assert [document.id for document in found] == ["4", "3", "2", "new", "1", "0"]

    @scenario()
    async def test_a_client_that_knows_fewer_indexes_keeps_them_all(self, h: H) -> None:
        """Old and new code write side by side while a fleet is upgraded."""
        old, new = h.adapter, await h.second()
        await old.ensure([Collection("grown")])
        await old.put("grown", "p", "before", {"n": 1})
        await new.ensure([Collection("grown", indexes=(("n",),))])
        await old.put("grown", "p", "after", {"n": 2})
        await old.put("grown", "p", "before", {"n": 3})
        assert [d.id for d in await walk(new, Query(order_by="n"), "grown")] == ["after", "before"]

    @scenario()
    async def test_a_query_without_an_index_is_refused(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        refused = [
            Query(where=(Condition("other", "==", 1),)),
            Query(order_by="other"),
            Query(order_by="status", where=(Condition("at", "==", 1), Condition("value", "==", 1))),
            Query(where=(Condition("at", ">", 1), Condition("value", "<", 1))),
            Query(where=(Condition("status", ">", "a"),), order_by="at"),
            Query(partition="p", where=(Condition("at", "==", 1), Condition("status", ">", "x"))),
        ]
        for query in refused:
            with pytest.raises(UnindexedQueryError) as caught:
                await h.adapter.query("indexed", query)
            assert "indexed" in str(caught.value)

    @scenario()
    async def test_a_page_holds_at_least_one_document_and_a_cursor_is_one_of_ours(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        with pytest.raises(ValueError, match=r"."):
            await h.adapter.query("indexed", Query(limit=0))
        with pytest.raises(ValueError, match=r"."):
            await h.adapter.query("indexed", Query(cursor="not a cursor"))

    @scenario()
    async def test_paging_meets_every_unchanged_document_once_whatever_is_written(self, h: H) -> None:
        await h.adapter.ensure([INDEXED])
        other = await h.second()
        await other.ensure([INDEXED])
        stable = [(f"p{n % 4}", f"stable{n:03}") for n in range(80)]
        for n, name in enumerate(stable):
            await h.adapter.put("indexed", *name, {"at": n % 9})
        stop = asyncio.Event()

        async def disturb(n: int) -> None:
            while not stop.is_set():
                for at in range(10):
                    await other.put("indexed", f"p{n}", f"moving{at:03}", {"at": at * n % 10})
                    await other.put("indexed", f"p{n}", f"a{at:03}", {"at": 4})
                    await asyncio.sleep(0)
                for at in range(0, 10, 2):
                    await other.delete("indexed", f"p{n}", f"moving{at:03}")
                    await other.delete("indexed", f"p{n}", f"a{at:03}")

        writers = [asyncio.create_task(disturb(n)) for n in range(4)]
        try:
            for order_by in (None, "at"):
                for descending in (False, True):
                    for _ in range(3):
                        query = Query(order_by=order_by, descending=descending, limit=7)
                        names = [(d.partition, d.id) for d in await walk(h.adapter, query)]
                        assert sorted(name for name in names if name[1].startswith("stable")) == sorted(stable)
        finally:
            stop.set()
            await asyncio.gather(*writers)
