"""A DocumentStore against a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ...errors import DocumentConflictError
from ...ports.documents import Collection, Condition, Delete, Document, DocumentStore, Operation, Put, Query
from .base import AdapterMachine

__all__ = ["documents_machine"]

COLLECTION = Collection("things", indexes=(("kind", "size"), ("size",)))
PARTITIONS, IDS, KINDS = ("p", "p/", "ß\x00"), ("a", "A", "a\x00"), ("x", "y\x00", "")
Name = tuple[str, str]

partitions, ids = st.sampled_from(PARTITIONS), st.sampled_from(IDS)
sizes = st.one_of(st.integers(-3, 3), st.floats(-3, 3, allow_nan=False))
bodies = st.fixed_dictionaries({}, optional={"kind": st.sampled_from(KINDS), "size": st.one_of(sizes, st.none())})
conditions = st.sampled_from(["none", "current", "stale", "create"])


class _DocumentsMachine(AdapterMachine[DocumentStore]):
    def __init__(self, open_adapter: Callable[[], DocumentStore]) -> None:
        super().__init__(open_adapter)
        self.run(self.adapter.ensure([COLLECTION]))
        self.model: dict[Name, Document] = {}
        self.etags = {""}

    def operation(self, partition: str, id: str, body: dict[str, Any] | None, condition: str) -> tuple[Operation, bool]:
        """An operation, and whether its condition holds."""
        found = self.model.get((partition, id))
        if condition == "create" and body is not None:
            return Put(id=id, body=body, create_only=True), found is None
        etag = None
        if condition == "current":
            etag = "nothing" if found is None else found.etag
        elif condition == "stale":
            etag = sorted(self.etags - {found.etag if found else "-"})[0]
        holds = etag is None or (found is not None and etag == found.etag)
        return Delete(id=id, if_match=etag) if body is None else Put(id=id, body=body, if_match=etag), holds

    @rule(
        partition=partitions,
        calls=st.lists(
            st.tuples(ids, st.one_of(bodies, st.none()), conditions),
            min_size=1,
            max_size=3,
            unique_by=lambda call: call[0],
        ),
    )
    def batch(self, partition: str, calls: list[tuple[str, dict[str, Any] | None, str]]) -> None:
        prepared = [self.operation(partition, *call) for call in calls]
        operations = [operation for operation, _ in prepared]
        results: list[Document | None] = []
        try:
            results = self.run(self.adapter.batch(COLLECTION.name, partition, operations))
        except DocumentConflictError as conflict:
            refused = conflict.context["id"]
        else:
            refused = None
        if refused is not None:
            assert refused in [operation.id for operation, holds in prepared if not holds]
            return
        assert all(holds for _, holds in prepared)
        for operation, result in zip(operations, results, strict=True):
            if isinstance(operation, Delete):
                assert result is None
                self.model.pop((partition, operation.id), None)
                continue
            assert result is not None
            assert (result.partition, result.id, result.body) == (partition, operation.id, operation.body)
            assert result.etag not in self.etags
            self.etags.add(result.etag)
            self.model[partition, operation.id] = result

    @rule(
        partition=st.one_of(partitions, st.none()),
        kind=st.one_of(st.sampled_from(KINDS), st.none()),
        low=st.one_of(sizes, st.none()),
        ordered=st.booleans(),
        descending=st.booleans(),
        limit=st.integers(1, 4),
    )
    def query(
        self, partition: str | None, kind: str | None, low: float | None, ordered: bool, descending: bool, limit: int
    ) -> None:
        where: list[Condition] = []
        if kind is not None:
            where.append(Condition("kind", "==", kind))
        if low is not None:
            where.append(Condition("size", ">=", low))
        expected = [
            ((document.body.get("size") or 0) if ordered else 0, *name)
            for name, document in self.model.items()
            if (partition is None or name[0] == partition)
            and (kind is None or document.body.get("kind") == kind)
            and (low is None or (document.body.get("size") is not None and document.body["size"] >= low))
            and (not ordered or document.body.get("size") is not None)
        ]
        expected.sort(reverse=descending)
        found: list[Document] = []
        cursor: str | None = None
        while True:
            query = Query(
                partition=partition,
                where=tuple(where),
                order_by="size" if ordered else None,
                descending=descending,
                limit=limit,
                cursor=cursor,
            )
            page = self.run(self.adapter.query(COLLECTION.name, query))
            assert len(page.documents) <= limit
            found += page.documents
            cursor = page.cursor
            if cursor is None:
                break
        assert found == [self.model[partition, id] for _, partition, id in expected]

    @invariant()
    def documents_agree(self) -> None:
        for partition in PARTITIONS:
            for id in IDS:
                found = self.run(self.adapter.get(COLLECTION.name, partition, id))
                assert found == self.model.get((partition, id))


def documents_machine(open_adapter: Callable[[], DocumentStore]) -> type[RuleBasedStateMachine]:
    """A machine for adapters that ``open_adapter()`` builds, unstarted and each over empty data."""

    class DocumentsMachine(_DocumentsMachine):
        def __init__(self) -> None:
            super().__init__(open_adapter)

    return DocumentsMachine
