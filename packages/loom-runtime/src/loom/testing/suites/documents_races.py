"""Documents under concurrency: racing writers, cancelled callers."""

from __future__ import annotations

import asyncio
import contextlib

from ...errors import DocumentConflictError
from ...ports.documents import Collection, Document, DocumentStore, Put, Query
from .base import Harness, Suite, eventually, scenario

__all__ = ["DocumentRaceSuite"]

H = Harness[DocumentStore]

PLAIN = Collection("plain")


async def _two(h: H) -> list[DocumentStore]:
    clients = [h.adapter, await h.second()]
    for client in clients:
        await client.ensure([PLAIN])
    return clients


class DocumentRaceSuite(Suite[DocumentStore]):
    """One version, one successor."""

    @scenario()
    async def test_of_racing_replacements_one_wins_each_version(self, h: H) -> None:
        clients = await _two(h)
        current = await h.adapter.put("plain", "p", "a", {"n": 0})
        for round_ in range(200):
            results = await asyncio.gather(
                *(
                    clients[n % 2].put("plain", "p", "a", {"round": round_, "writer": n}, if_match=current.etag)
                    for n in range(4)
                ),
                return_exceptions=True,
            )
            winners = [result for result in results if isinstance(result, Document)]
            assert len(winners) == 1, results
            assert sum(isinstance(result, DocumentConflictError) for result in results) == 3, results
            current = winners[0]
            assert await clients[round_ % 2].get("plain", "p", "a") == current

    @scenario()
    async def test_of_racing_creations_one_wins(self, h: H) -> None:
        clients = await _two(h)
        for round_ in range(200):
            results = await asyncio.gather(
                *(clients[n % 2].put("plain", "p", str(round_), {"writer": n}, create_only=True) for n in range(4)),
                return_exceptions=True,
            )
            winners = [result for result in results if isinstance(result, Document)]
            assert len(winners) == 1, results
            assert sum(isinstance(result, DocumentConflictError) for result in results) == 3, results
            assert await clients[round_ % 2].get("plain", "p", str(round_)) == winners[0]

    @scenario()
    async def test_no_increment_is_lost(self, h: H) -> None:
        clients = await _two(h)
        await h.adapter.put("plain", "p", "counter", {"n": 0})

        async def increment(client: DocumentStore) -> None:
            for _ in range(25):
                while True:
                    found = await client.get("plain", "p", "counter")
                    assert found is not None
                    with contextlib.suppress(DocumentConflictError):
                        await client.put("plain", "p", "counter", {"n": found.body["n"] + 1}, if_match=found.etag)
                        break

        await asyncio.gather(*(increment(clients[n % 2]) for n in range(6)))
        found = await h.adapter.get("plain", "p", "counter")
        assert found is not None
        assert found.body == {"n": 150}

    @scenario()
    async def test_racing_batches_never_mix(self, h: H) -> None:
        clients = await _two(h)

        async def write(client: DocumentStore, name: str) -> None:
            for n in range(30):
                await client.batch("plain", "p", [Put(id=id, body={"by": name, "n": n}) for id in "abc"])

        async def watch(client: DocumentStore) -> None:
            while not writers.done():
                page = await client.query("plain", Query(partition="p"))
                assert len({(d.body["by"], d.body["n"]) for d in page.documents}) <= 1, page
                await asyncio.sleep(0)

        writers = asyncio.gather(*(write(clients[n % 2], str(n)) for n in range(4)))
        await asyncio.gather(writers, *(watch(client) for client in clients))

    @scenario()
    async def test_a_client_sees_at_once_what_another_was_told(self, h: H) -> None:
        one, other = await _two(h)
        for n in range(100):
            put = await one.put("plain", "p", "a", {"n": n})
            assert await other.get("plain", "p", "a") == put
            assert (await other.query("plain", Query(partition="p"))).documents == [put]

    @scenario()
    async def test_a_cancelled_batch_is_whole_or_absent(self, h: H) -> None:
        await h.adapter.ensure([PLAIN])
        for n in range(60):
            partition = f"p{n}"
            operations = [Put(id=id, body={"n": n}) for id in "abcde"]
            call = asyncio.create_task(h.adapter.batch("plain", partition, operations))
            for _ in range(n % 6):
                await asyncio.sleep(0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
        # A call that goes on after its caller has left may still be on its way.
        await h.adapter.put("plain", "last", "a", {})

        async def settled() -> bool:
            counts = [len((await h.adapter.query("plain", Query(partition=f"p{n}"))).documents) for n in range(60)]
            assert set(counts) <= {0, 5}, counts
            return True

        await eventually(settled, "every batch is whole or absent")
        assert (await h.adapter.put("plain", "p0", "a", {"after": True})).body == {"after": True}
