"""What becomes of calls when the account throttles, fails, cuts connections, or was never set up."""

from __future__ import annotations

import asyncio
import itertools
import re

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.cosmos.exceptions import CosmosHttpResponseError

from loom.errors import DocumentConflictError, JournalConflictError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports.documents import Collection
from loom.ports.journal import Append, Appended, Head, Snapshot
from loom.testing.servers import free_port
from loom_cosmos.client import Cosmos
from loom_cosmos.containers import DOCUMENTS, JOURNAL
from loom_cosmos.documents import CosmosDocumentStore
from loom_cosmos.failures import unavailable
from loom_cosmos.journal import CosmosJournalStore
from loom_cosmos.lock import CosmosLockManager
from loom_cosmos.options import CosmosOptions
from loom_cosmos.testing import CosmosServer

PLAIN = Collection("plain")
_numbers = itertools.count(1)


def client(url: str) -> Cosmos:
    return Cosmos(CosmosOptions.from_url(LoomURL.parse(url)))


@pytest.fixture
def url(server: CosmosServer) -> str:
    """An empty database on the server that can misbehave, whatever account the conformance suites run against."""
    return server.url(f"failures{next(_numbers)}", retry_for=2)


async def test_a_throttled_account_is_asked_again_when_it_says(url: str, server: CosmosServer) -> None:
    async with CosmosDocumentStore(client(url)) as store:
        await store.ensure([PLAIN])
        put = await store.put("plain", "p", "a", {"n": 1})
        server.control(throttle=6, retryAfterMs=30)
        began = asyncio.get_running_loop().time()
        again = await store.put("plain", "p", "a", {"n": 2}, if_match=put.etag)
        assert asyncio.get_running_loop().time() - began >= 6 * 0.03
        assert store._cosmos.usage.spent["batch"].throttled == 6
        server.control(throttle=3)
        with pytest.raises(DocumentConflictError):  # the condition is sent again with every attempt
            await store.put("plain", "p", "a", {"n": 3}, if_match=put.etag)
        assert await store.get("plain", "p", "a") == again


async def test_a_storm_of_throttling_loses_and_doubles_nothing(url: str, server: CosmosServer) -> None:
    async with CosmosJournalStore(client(url)) as store:
        server.control(throttle=60, retryAfterMs=5)
        appends = [Append(f"s{n}", 0, "", f"e{n}", b"x") for n in range(30)]
        assert await store.append_many(appends) == [Appended(1)] * 30
        assert [len(await store.read(f"s{n}")) for n in range(30)] == [1] * 30


async def test_patience_ends_and_says_what_to_raise(url: str, server: CosmosServer) -> None:
    async with CosmosJournalStore(client(url)) as store:
        server.control(throttle=10**6, retryAfterMs=300)
        with pytest.raises(StoreUnavailableError, match="throughput update") as caught:
            await store.append(Append("s", 0, "", "e", b""))
        assert not caught.value.unknown
        server.control(throttle=10**6, retryAfterMs=60_000)
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailableError):  # nobody sleeps for longer than the budget
            await store.head("s")
        assert asyncio.get_running_loop().time() - began < 30


@pytest.mark.parametrize("status", [503, 408])
async def test_reads_are_repeated_and_writes_are_not(url: str, server: CosmosServer, status: int) -> None:
    async with CosmosDocumentStore(client(url)) as store:
        await store.ensure([PLAIN])
        put = await store.put("plain", "p", "a", {"n": 1})
        server.control(fail=2, failStatus=status)
        assert await store.get("plain", "p", "a") == put
        server.control(fail=1, failStatus=status)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("plain", "p", "a", {"n": 2})
        assert caught.value.unknown
        assert store._cosmos.options.account in str(caught.value)


async def test_an_append_whose_answer_was_lost_is_known_again(url: str, server: CosmosServer) -> None:
    async with CosmosJournalStore(client(url)) as store:
        assert await store.append(Append("s", 0, "", "e1", b"1")) == Appended(1)
        server.control(cutAfter=1)
        assert await store.append(Append("s", 1, "e1", "e2", b"2")) == Appended(2, duplicate=True)
        server.control(cutBefore=1)
        assert (await store.append(Append("s", 2, "e2", "e3", b"3"))).seq == 3
        server.control(cutAfter=1)
        assert await store.write_snapshot("s", Snapshot(2, b"two")), "it was ours that had been taken"
        server.control(cutAfter=1)
        await store.trim("s", 2)
        assert [entry.data for entry in await store.read("s", 2)] == [b"3"]
        assert await store.head("s") == Head(3, "e3", 0, 2)


async def test_a_document_whose_answer_was_lost_is_unknown(url: str, server: CosmosServer) -> None:
    async with CosmosDocumentStore(client(url)) as store:
        await store.ensure([PLAIN])
        server.control(cutAfter=1)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("plain", "p", "a", {"n": 1}, create_only=True)
        assert caught.value.unknown
        found = await store.get("plain", "p", "a")
        assert found is not None
        server.control(cutBefore=2)
        assert await store.get("plain", "p", "a") == found


async def test_an_answer_that_never_comes_is_not_waited_for(url: str, server: CosmosServer) -> None:
    async with CosmosDocumentStore(client(f"{url}&timeout=0.3")) as store:
        await store.ensure([PLAIN])
        put = await store.put("plain", "p", "a", {"n": 1})
        server.control(hang=1)
        assert await store.get("plain", "p", "a") == put
        server.control(hang=1)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("plain", "p", "a", {"n": 2})
        assert caught.value.unknown


async def test_a_lock_whose_answer_was_lost_is_held(url: str, server: CosmosServer) -> None:
    async with CosmosLockManager(client(url)) as locks:
        server.control(cutAfter=1)
        lease = await locks.acquire("l", 60)
        assert lease is not None
        assert await locks.holder("l") == lease
        server.control(cutAfter=1)
        assert await locks.release(lease)
        again = await locks.acquire("l", 60)
        assert again is not None
        assert again.token > lease.token


async def test_a_turn_is_one_request(url: str) -> None:
    async with CosmosJournalStore(client(url)) as store:
        usage = store._cosmos.usage
        await store.head("s")
        assert await store.read("s") == []
        before, batches = usage.requests, usage.spent["batch"].requests
        head = Head()
        for n in range(10):
            append = Append("s", head.seq, head.entry_id, f"e{n}", b"turn")
            await store.append(append)
            head = Head(head.seq + 1, append.entry_id)
        assert usage.requests - before == 10
        assert usage.spent["batch"].requests - batches == 10
        await store.write_snapshot("s", Snapshot(10, b"all"))
        assert usage.requests - before == 11
        async with CosmosJournalStore(client(url)) as other:
            started = other._cosmos.usage.requests
            await other.append(Append("s", 10, head.entry_id, "theirs", b""))
            assert other._cosmos.usage.requests - started == 2, "a look at the head, and the batch"
        with pytest.raises(JournalConflictError) as caught:
            await store.append(Append("s", 10, head.entry_id, "ours", b""))
        assert caught.value.head.entry_id == "theirs"


async def test_a_read_is_one_request_and_a_query_of_a_partition_too(url: str) -> None:
    async with CosmosDocumentStore(client(url)) as store:
        await store.ensure([PLAIN])
        usage = store._cosmos.usage
        started, reads = usage.requests, usage.spent["read"].requests
        for n in range(5):
            await store.put("plain", "p", str(n), {"n": n})
        assert usage.requests - started == 5
        await store.get("plain", "p", "0")
        assert usage.spent["read"].requests - reads == 1


async def test_a_wrong_key_is_named_and_never_shown(server: CosmosServer) -> None:
    key = "d3JvbmcK"
    url = LoomURL.parse(server.url("keys", key=key))
    store = CosmosDocumentStore.from_url(url, AdapterContext())
    with pytest.raises(StoreUnavailableError, match="az cosmosdb keys list") as caught:
        await store.start()
    assert key not in str(caught.value)
    assert key not in repr(store._cosmos.options)
    await store.close()


ROLE = r"az cosmosdb sql role assignment create --account-name shop .*Built-in Data Contributor"


@pytest.mark.parametrize(
    ("key", "error", "remedy"),
    [
        ("a2V5a2V5", CosmosHttpResponseError(401), r"clock is wrong.*az cosmosdb keys list --name shop"),
        ("", CosmosHttpResponseError(401), rf"token was refused: it has ended.*clock.*az login.*{ROLE}"),
        ("", CosmosHttpResponseError(403), ROLE),
        ("", ClientAuthenticationError("no credential"), rf"az login.*{ROLE}"),
        ("", CosmosHttpResponseError(404), r"'orders'.*loom cosmos init"),
        ("", CosmosHttpResponseError(429), r"throughput update --account-name shop .*--name orders"),
    ],
)
def test_an_error_names_the_place_what_was_tried_and_what_repairs_it(key: str, error: Exception, remedy: str) -> None:
    """Identities are only met on a real account: these are the statuses that its documentation names."""
    options = CosmosOptions.from_url(LoomURL.parse(f"cosmos://:{key}@shop.documents.azure.com/orders"))
    said = str(unavailable(error, options, "reading from 'journal'"))
    assert said.startswith("Cosmos DB at https://shop.documents.azure.com/orders: reading from 'journal' failed (")
    assert re.search(remedy, said), said
    assert not key or key not in said


async def test_nobody_listens(server: CosmosServer) -> None:
    url = f"cosmos+emulator://127.0.0.1:{free_port()}/loom?retry_for=0"
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
        await CosmosJournalStore(client(url)).start()
    assert not caught.value.unknown


async def test_storage_is_made_only_by_who_may(server: CosmosServer) -> None:
    url = LoomURL.parse(server.url("unmade"))
    with pytest.raises(StoreUnavailableError, match="no container 'journal'"):
        await CosmosJournalStore.from_url(url, AdapterContext(create=False)).start()
    server.control(denied="POST")
    with pytest.raises(StoreUnavailableError, match=r"az cosmosdb sql container create .*--partition-key-path /pk"):
        await CosmosJournalStore.from_url(url, AdapterContext()).start()
    server.control()
    async with CosmosJournalStore.from_url(url, AdapterContext()) as store:
        assert await store.streams() == []
    async with CosmosJournalStore.from_url(url, AdapterContext(create=False)) as store:
        assert await store.streams() == []


async def test_indexes_that_may_not_be_added_come_with_the_command_that_adds_them(
    url: str, server: CosmosServer
) -> None:
    async with CosmosDocumentStore(client(url)) as store:
        server.control(denied="PUT")
        with pytest.raises(StoreUnavailableError, match=r"az cosmosdb sql container update .*/f_due/\?.*composite"):
            await store.ensure([Collection("pending", indexes=(("due",),))])
        server.control()
        await store.ensure([Collection("pending", indexes=(("due",),))])
        server.control(denied="PUT")
        await store.ensure([Collection("pending", indexes=(("due",),))])


async def test_a_container_that_is_deleted_under_way_is_not_taken_for_empty(url: str) -> None:
    async with CosmosJournalStore(client(url)) as journal, CosmosDocumentStore(client(url)) as store:
        await store.ensure([PLAIN])
        await store.put("plain", "p", "a", {})
        await journal.append(Append("s", 0, "", "e", b""))
        database = store._cosmos._database
        assert database is not None
        for spec in (DOCUMENTS, JOURNAL):
            await database.delete_container(spec.name)
        for call in (
            store.get("plain", "p", "a"),
            store.put("plain", "p", "a", {}),
            journal.head("s"),
            journal.append(Append("s", 1, "e", "f", b"")),
        ):
            with pytest.raises(StoreUnavailableError):
                await call


async def test_two_adapters_of_one_url_share_a_client(url: str) -> None:
    context, parsed = AdapterContext(), LoomURL.parse(url)
    first = CosmosJournalStore.from_url(parsed, context)
    second = CosmosLockManager.from_url(parsed, context)
    assert first._cosmos is second._cosmos
    await first.start()
    await first.start()
    await second.start()
    await first.close()
    await first.close()
    assert await second.acquire("l", 60) is not None
    await second.close()
    with pytest.raises(StoreUnavailableError, match="not started, or closed"):
        await first.head("s")


async def test_a_start_that_is_cancelled_leaves_nothing_open(url: str) -> None:
    for n in range(8):
        store = CosmosJournalStore(client(url))
        start = asyncio.ensure_future(store.start())
        await asyncio.sleep(0.004 * n)
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await store.close()
        async with store:
            assert await store.head("s") == Head()
