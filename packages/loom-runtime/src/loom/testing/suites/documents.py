"""What every DocumentStore must do: documents, conditions, batches, bodies, names, time."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from ...errors import DocumentConflictError, DocumentError, InvalidKeyError, TooLargeError
from ...plugins.spec import Feature
from ...ports.documents import Collection, Delete, Document, DocumentStore, Operation, Put, Query
from .base import MOST_TESTED, Harness, Suite, limit, scenario
from .documents_crash import DocumentCrashSuite
from .documents_query import DocumentQuerySuite
from .documents_races import DocumentRaceSuite
from .keys import BAD_KEYS, HOSTILE_KEYS

__all__ = ["DocumentStoreSuite"]

H = Harness[DocumentStore]

PLAIN = Collection("plain")
BODY: dict[str, Any] = {
    "text": 'é\x00\n"\\/😀',
    "int": -7,
    "large": 2**53 - 1,
    "float": 0.1,
    "true": True,
    "false": False,
    "null": None,
    "list": [1, "a", [None, {}], {"x": []}],
    "object": {"": 1, "a.b": {"c": "d"}, "é": 2},
    "empty": "",
}


async def everything(store: DocumentStore, collection: str, partition: str | None = None) -> list[Document]:
    """All documents, page by page."""
    found: list[Document] = []
    cursor: str | None = None
    while True:
        page = await store.query(collection, Query(partition=partition, limit=50, cursor=cursor))
        found += page.documents
        cursor = page.cursor
        if cursor is None:
            return found


class _Documents(Suite[DocumentStore]):
    @scenario()
    async def test_what_was_put_is_there_whole(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        assert await h.adapter.get("plain", "p", "a") is None
        put = await h.adapter.put("plain", "p", "a", BODY)
        assert (put.partition, put.id, put.body, put.expires_at) == ("p", "a", BODY, None)
        assert put.etag
        assert await h.adapter.get("plain", "p", "a") == put
        assert [type(value) for value in put.body.values()] == [type(value) for value in BODY.values()]
        assert await h.adapter.get("plain", "p", "b") is None
        assert await h.adapter.get("plain", "q", "a") is None

    @scenario()
    async def test_a_body_is_a_copy(self, h: H) -> None:
        """Neither what was handed in nor what was handed out reaches the stored document."""
        await h.adapter.ensure([PLAIN])
        body: dict[str, Any] = {"list": [1], "object": {"a": 1}}
        put = await h.adapter.put("plain", "p", "a", body)
        body["list"].append(2)
        put.body["object"]["a"] = 2
        first = await h.adapter.get("plain", "p", "a")
        assert first is not None
        assert first.body == {"list": [1], "object": {"a": 1}}
        first.body["list"].append(3)
        second = await h.adapter.get("plain", "p", "a")
        assert second is not None
        assert second.body == {"list": [1], "object": {"a": 1}}

    @scenario()
    async def test_every_write_has_an_etag_of_its_own(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        etags = []
        for _ in range(5):
            etags.append((await h.adapter.put("plain", "p", "a", {"same": 1})).etag)
            await h.adapter.delete("plain", "p", "a")
            etags.append((await h.adapter.put("plain", "p", "a", {"same": 1})).etag)
        assert len(set(etags)) == 10

    @scenario()
    async def test_if_match_replaces_that_version_only(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        first = await h.adapter.put("plain", "p", "a", {"n": 1})
        second = await h.adapter.put("plain", "p", "a", {"n": 2}, if_match=first.etag)
        for etag in (first.etag, "other", ""):
            with pytest.raises(DocumentConflictError) as caught:
                await h.adapter.put("plain", "p", "a", {"n": 3}, if_match=etag)
            assert caught.value.context["id"] == "a"
        with pytest.raises(DocumentConflictError):
            await h.adapter.put("plain", "p", "absent", {"n": 3}, if_match=second.etag)
        assert await h.adapter.get("plain", "p", "a") == second
        assert await h.adapter.get("plain", "p", "absent") is None

    @scenario()
    async def test_create_only_writes_where_nothing_is(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        first = await h.adapter.put("plain", "p", "a", {"n": 1}, create_only=True)
        with pytest.raises(DocumentConflictError) as caught:
            await h.adapter.put("plain", "p", "a", {"n": 2}, create_only=True)
        assert caught.value.context["id"] == "a"
        assert await h.adapter.get("plain", "p", "a") == first
        await h.adapter.delete("plain", "p", "a")
        assert (await h.adapter.put("plain", "p", "a", {"n": 3}, create_only=True)).body == {"n": 3}

    @scenario()
    async def test_deleting(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        await h.adapter.delete("plain", "p", "absent")
        first = await h.adapter.put("plain", "p", "a", {})
        second = await h.adapter.put("plain", "p", "a", {})
        for id, etag in (("a", first.etag), ("absent", first.etag)):
            with pytest.raises(DocumentConflictError):
                await h.adapter.delete("plain", "p", id, if_match=etag)
        assert await h.adapter.get("plain", "p", "a") == second
        await h.adapter.delete("plain", "p", "a", if_match=second.etag)
        assert await h.adapter.get("plain", "p", "a") is None

    @scenario()
    async def test_a_collection_must_be_ensured_and_may_be_again(self, h: H) -> None:
        with pytest.raises(DocumentError):
            await h.adapter.get("plain", "p", "a")
        await h.adapter.ensure([PLAIN, Collection("other")])
        put = await h.adapter.put("plain", "p", "a", {"n": 1})
        await h.adapter.ensure([PLAIN])
        await h.adapter.ensure([Collection("plain", indexes=(("n",),))])
        assert await h.adapter.get("plain", "p", "a") == put
        assert await h.adapter.get("other", "p", "a") is None
        with pytest.raises(ValueError, match=r"."):
            await h.adapter.ensure([Collection("Not a name")])


class _Batches(Suite[DocumentStore]):
    @scenario()
    async def test_a_batch_does_all_and_says_what_it_wrote(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        old = await h.adapter.put("plain", "p", "old", {"n": 0})
        gone = await h.adapter.put("plain", "p", "gone", {})
        results = await h.adapter.batch(
            "plain",
            "p",
            [
                Put(id="new", body={"n": 1}, create_only=True),
                Delete(id="gone", if_match=gone.etag),
                Put(id="old", body={"n": 2}, if_match=old.etag),
                Delete(id="absent"),
            ],
        )
        assert [result and result.id for result in results] == ["new", None, "old", None]
        assert await h.adapter.get("plain", "p", "new") == results[0]
        assert await h.adapter.get("plain", "p", "old") == results[2]
        assert await h.adapter.get("plain", "p", "gone") is None
        assert await h.adapter.batch("plain", "p", []) == []

    @scenario()
    async def test_a_batch_of_which_one_fails_leaves_nothing(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        kept = await h.adapter.put("plain", "p", "kept", {"n": 1})
        good: list[Operation] = [Put(id="new", body={}), Put(id="kept", body={"n": 2}), Delete(id="absent")]
        bad: list[Operation] = [
            Put(id="bad", body={}, if_match="other"),
            Delete(id="bad", if_match="other"),
            Put(id="bad", body={"x": math.nan}),
            Put(id="bad", body={"x": object()}),
        ]
        for failing in bad:
            for position in range(len(good) + 1):
                with pytest.raises((DocumentConflictError, ValueError)):
                    await h.adapter.batch("plain", "p", [*good[:position], failing, *good[position:]])
        with pytest.raises(DocumentConflictError) as caught:
            await h.adapter.batch("plain", "p", [Delete(id="absent"), Put(id="kept", body={}, create_only=True)])
        assert caught.value.context["id"] == "kept"
        assert await everything(h.adapter, "plain") == [kept]

    @scenario()
    async def test_a_batch_holds_up_to_a_hundred_operations_with_different_ids(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        puts = [Put(id=f"{n:03}", body={"n": n}) for n in range(101)]
        with pytest.raises(TooLargeError):
            await h.adapter.batch("plain", "p", puts)
        with pytest.raises(ValueError, match=r"."):
            await h.adapter.batch("plain", "p", [puts[0], Delete(id="000")])
        assert await everything(h.adapter, "plain") == []
        results = await h.adapter.batch("plain", "p", puts[:100])
        assert await everything(h.adapter, "plain", "p") == results

    @scenario()
    async def test_a_batch_with_a_body_that_is_too_large_leaves_nothing(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        size = limit(h.adapter)
        large = {"x": "x" * size}
        with pytest.raises(TooLargeError):
            await h.adapter.batch("plain", "p", [Put(id="a", body={}), Put(id="b", body=large), Put(id="c", body={})])
        outcomes = await h.adapter.batch_many(
            "plain", [("q", [Put(id="b", body=large)]), ("p", [Put(id="d", body={})])]
        )
        assert isinstance(outcomes[0], TooLargeError)
        assert [document.id for document in await everything(h.adapter, "plain")] == ["d"]
        if size <= MOST_TESTED:
            fits = {"x": "x" * (size - len('{"x":""}'))}
            await h.adapter.put("plain", "p", "full", fits)
            found = await h.adapter.get("plain", "p", "full")
            assert found is not None
            # Not in the assert: a difference of such values would take minutes to print.
            same = found.body == fits
            assert same

    @scenario()
    async def test_many_batches_succeed_or_fail_each_for_itself(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        kept = await h.adapter.put("plain", "p", "kept", {"n": 1})
        outcomes = await h.adapter.batch_many("plain", [
            ("p", [Put(id="a", body={"n": 1}), Put(id="b", body={"n": 2})]),
            ("p", [Put(id="c", body={}), Put(id="kept", body={}, create_only=True)]),
            ("q", [Put(id="a", body={"n": 3})]),
            ("p", [Put(id="a", body={"n": 4}), Delete(id="b")]),
            ("p", []),
        ])  # fmt: skip
        assert isinstance(outcomes[1], DocumentConflictError)
        first, second, third = outcomes[0], outcomes[2], outcomes[3]
        assert isinstance(first, list)
        assert isinstance(second, list)
        assert isinstance(third, list)
        assert [document and document.body for document in first] == [{"n": 1}, {"n": 2}]
        assert outcomes[4] == []
        assert third[1] is None
        assert await everything(h.adapter, "plain", "p") == [third[0], kept], "batches of a partition keep their order"
        assert await everything(h.adapter, "plain", "q") == second
        assert await h.adapter.batch_many("plain", []) == []

    @scenario()
    async def test_documents_created_together_conflict_each_for_itself(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        kept = await h.adapter.put("plain", "p", "kept", {"n": 1})
        batches: list[tuple[str, list[Operation]]] = [
            ("p", [Put(id="new", body={"n": 2}, create_only=True)]),
            ("p", [Put(id="kept", body={"n": 3}, create_only=True)]),
            ("q", [Put(id="kept", body={"n": 4}, create_only=True)]),
            ("p", [Put(id="new", body={"n": 5}, create_only=True)]),
            ("q", [Put(id="kept", body={"n": 6})]),
        ]
        outcomes = await h.adapter.batch_many("plain", batches)
        assert [isinstance(outcome, DocumentConflictError) for outcome in outcomes] == [False, True, False, True, False]
        new = await h.adapter.get("plain", "p", "new")
        assert [new] == outcomes[0]
        assert await h.adapter.get("plain", "p", "kept") == kept
        assert [await h.adapter.get("plain", "q", "kept")] == outcomes[4]


class _Bodies(Suite[DocumentStore]):
    @scenario()
    async def test_what_is_not_json_is_refused(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        circular: dict[str, Any] = {}
        circular["self"] = circular
        bodies: list[Any] = [
            {"x": math.nan}, {"x": [math.inf]}, {"x": -math.inf}, {1: "x"}, {"x": {None: 1}}, {"x": (1, 2)},
            {"x": b"bytes"}, {"x": {1, 2}}, {"x": object()}, {"x": "\ud800"}, {"\ud800": 1}, [], "text", None, circular,
        ]  # fmt: skip
        for body in bodies:
            with pytest.raises(ValueError, match=r"."):
                await h.adapter.put("plain", "p", "a", body)
        assert await h.adapter.get("plain", "p", "a") is None

    @scenario()
    async def test_a_body_of_a_mebibyte(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        body = {"text": "é" * 2**18, "list": ["x" * 1000] * 500}
        put = await h.adapter.put("plain", "p", "a", body)
        found = await h.adapter.get("plain", "p", "a")
        assert found == put
        assert found.body == body


class _Names(Suite[DocumentStore]):
    @scenario()
    async def test_hostile_names_are_kept_apart(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        pairs = [(key, "id") for key in HOSTILE_KEYS] + [("p", key) for key in HOSTILE_KEYS]
        # Pairs whose parts, joined by what an adapter might join with, read the same.
        pairs += [("a", "b/c"), ("a/b", "c"), ("a:b", "c"), ("a", "b:c"), ("a\x00b", "c"), ("a", "b\x00c")]
        pairs += [("x" * 4096, "y" * 4096), ("y" * 4096, "x" * 4096)]
        await asyncio.gather(*(h.adapter.put("plain", *pair, {"pair": list(pair)}) for pair in pairs))
        for partition, id in pairs:
            found = await h.adapter.get("plain", partition, id)
            assert found is not None
            assert (found.partition, found.id, found.body) == (partition, id, {"pair": [partition, id]})
        assert [(d.partition, d.id) for d in await everything(h.adapter, "plain")] == sorted(pairs)
        for key in HOSTILE_KEYS:
            expected = sorted(pair for pair in pairs if pair[0] == key)
            assert [(d.partition, d.id) for d in await everything(h.adapter, "plain", key)] == expected
        for partition, id in pairs[::2]:
            await h.adapter.delete("plain", partition, id)
        assert [(d.partition, d.id) for d in await everything(h.adapter, "plain")] == sorted(pairs[1::2])

    @scenario()
    async def test_bad_names_are_refused(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        for key in BAD_KEYS:
            for partition, id in ((key, "a"), ("p", key)):
                with pytest.raises(InvalidKeyError):
                    await h.adapter.get("plain", partition, id)
                with pytest.raises(InvalidKeyError):
                    await h.adapter.put("plain", partition, id, {})
                with pytest.raises(InvalidKeyError):
                    await h.adapter.delete("plain", partition, id)
        assert await everything(h.adapter, "plain") == []


class _Time(Suite[DocumentStore]):
    @scenario(Feature.TTL)
    async def test_an_expired_document_is_gone_for_every_method(self, h: H) -> None:
        await h.adapter.ensure([Collection("timed", indexes=(("n",),))])
        put = await h.adapter.put("timed", "p", "a", {"n": 1}, ttl=h.unit)
        kept = await h.adapter.put("timed", "p", "b", {"n": 1})
        assert put.expires_at == pytest.approx(h.now() + h.unit, abs=0.5 * h.unit)
        assert await h.adapter.get("timed", "p", "a") == put
        await h.pass_time(h.unit)
        assert await h.adapter.get("timed", "p", "a") is None
        assert await everything(h.adapter, "timed") == [kept]
        assert (await h.adapter.query("timed", Query(order_by="n"))).documents == [kept]
        with pytest.raises(DocumentConflictError):
            await h.adapter.put("timed", "p", "a", {}, if_match=put.etag)
        with pytest.raises(DocumentConflictError):
            await h.adapter.delete("timed", "p", "a", if_match=put.etag)
        created = await h.adapter.put("timed", "p", "a", {"n": 2}, create_only=True)
        assert created.expires_at is None
        assert await h.adapter.get("timed", "p", "a") == created

    @scenario(Feature.TTL)
    async def test_each_write_sets_the_life_anew(self, h: H) -> None:
        await h.adapter.ensure([Collection("timed", ttl=h.unit * 10)])
        default = await h.adapter.put("timed", "p", "default", {})
        assert default.expires_at == pytest.approx(h.now() + h.unit * 10, abs=h.unit)
        await h.adapter.put("timed", "p", "short", {}, ttl=h.unit)
        again = await h.adapter.put("timed", "p", "again", {}, ttl=h.unit)
        again = await h.adapter.put("timed", "p", "again", {}, if_match=again.etag)
        assert again.expires_at is not None
        await h.pass_time(h.unit)
        assert [document.id for document in await everything(h.adapter, "timed")] == ["again", "default"]
        for ttl in (0.0, -1.0, math.nan):
            with pytest.raises(ValueError, match=r"."):
                await h.adapter.put("timed", "p", "short", {}, ttl=ttl)


class DocumentStoreSuite(
    _Documents, _Batches, _Bodies, _Names, _Time, DocumentQuerySuite, DocumentRaceSuite, DocumentCrashSuite
):
    """All that a DocumentStore must do."""
