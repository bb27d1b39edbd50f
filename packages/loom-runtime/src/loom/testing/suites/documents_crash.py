"""Documents across the end of a client, of a process, and between processes."""

from __future__ import annotations

import asyncio
import contextlib

from ...errors import DocumentConflictError
from ...plugins.spec import Durability, Reach
from ...ports.documents import Collection, Condition, DocumentStore, Put, Query
from .base import Harness, Suite, scenario
from .child import report, run_child

__all__ = ["DocumentCrashSuite"]

H = Harness[DocumentStore]

COUNTED = Collection("counted", indexes=(("n",),))


async def put_and_report(store: DocumentStore) -> None:
    """Child: write pairs of documents for ever, and report each pair once it is acknowledged."""
    await store.ensure([COUNTED])

    async def write(partition: str) -> None:
        n = 0
        while True:
            n += 1
            await store.batch("counted", partition, [Put(id=id, body={"n": n}) for id in ("left", "right")])
            await store.put("counted", partition, f"only{n}", {"n": n}, create_only=True)
            report([partition, n])

    await asyncio.gather(*(write(f"p{n}") for n in range(8)))


async def increment_and_report(store: DocumentStore, times: str) -> None:
    """Child: add one to a counter against others, and report each value that was written."""
    await store.ensure([COUNTED])
    for _ in range(int(times)):
        while True:
            found = await store.get("counted", "p", "counter")
            assert found is not None
            with contextlib.suppress(DocumentConflictError):
                await store.put("counted", "p", "counter", {"n": found.body["n"] + 1}, if_match=found.etag)
                report(found.body["n"] + 1)
                break


class DocumentCrashSuite(Suite[DocumentStore]):
    """What was acknowledged is there afterwards."""

    @scenario(durability=Durability.PROCESS)
    async def test_everything_is_there_after_reopening(self, h: H) -> None:
        await h.adapter.ensure([COUNTED])
        written = [await h.adapter.put("counted", "p", f"{n:02}", {"n": n}) for n in range(20)]
        await h.adapter.delete("counted", "p", "00")
        store = await h.reopen()
        await store.ensure([COUNTED])
        assert (await store.query("counted", Query(order_by="n"))).documents == written[1:]
        again = await store.put("counted", "p", "05", {"n": 5}, if_match=written[5].etag)
        assert again.etag not in {document.etag for document in written}

    @scenario(durability=Durability.PROCESS, url=True)
    async def test_what_a_killed_process_had_acknowledged_is_there(self, h: H) -> None:
        assert h.url is not None
        async with run_child(put_and_report, await h.leave(), h.url) as child:
            while len(child.lines) < 300 and await child.read() is not None:
                pass
            reports = await child.kill()
        assert len(reports) >= 300
        store = await h.reopen()
        await store.ensure([COUNTED])
        acknowledged = dict(reports)
        assert len(acknowledged) == 8
        for partition, n in acknowledged.items():
            left, right = [await store.get("counted", partition, id) for id in ("left", "right")]
            assert left is not None
            assert right is not None
            assert left.body == right.body
            assert left.body["n"] in (n, n + 1)
            for done in range(1, n + 1):
                assert await store.get("counted", partition, f"only{done}") is not None
            page = await store.query(
                "counted", Query(partition=partition, where=(Condition("n", "==", left.body["n"]),))
            )
            assert {"left", "right"} <= {document.id for document in page.documents}

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_that_race_lose_no_increment(self, h: H) -> None:
        assert h.url is not None
        await h.adapter.ensure([COUNTED])
        await h.adapter.put("counted", "p", "counter", {"n": 0})
        async with (
            run_child(increment_and_report, h.adapter, h.url, "60") as one,
            run_child(increment_and_report, h.adapter, h.url, "60") as two,
        ):
            values = [*await one.rest(), *await two.rest()]
            assert (one.returncode, two.returncode) == (0, 0)
        assert sorted(values) == list(range(1, 121))
        found = await h.adapter.get("counted", "p", "counter")
        assert found is not None
        assert found.body == {"n": 120}
