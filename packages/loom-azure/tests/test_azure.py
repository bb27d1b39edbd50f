"""What is particular to Azure: names and metadata in the container, writers whose blocks meet, leases, snapshots."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from azure.storage.blob import BlobType

from loom.errors import BlobConflictError, BlobNotFoundError, StoreUnavailableError, TooLargeError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import BlobInfo
from loom_azure import listing
from loom_azure.blobs import AzureBlobStore
from loom_azure.names import DEEPEST, LONGEST
from loom_azure.proxy import Fault, FaultyProxy
from loom_azure.testing import AzuriteServer

MIB = 2**20


def open_store(url: str) -> AzureBlobStore:
    return AzureBlobStore.from_url(LoomURL.parse(url), AdapterContext())


@pytest.fixture
async def store(blob_url: str) -> AsyncIterator[AzureBlobStore]:
    async with open_store(blob_url) as store:
        yield store


async def names(store: AzureBlobStore, prefix: str = "", limit: int = 1000) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.list(prefix, limit=limit, cursor=cursor)
        found += [info.name for info in page.blobs]
        cursor = page.cursor
        if cursor is None:
            return found


def root(store: AzureBlobStore) -> str:
    return f"{store.options.namespace}/"


async def in_container(store: AzureBlobStore) -> dict[str, dict[str, str]]:
    listed = store.session.container.list_blobs(name_starts_with=root(store), include=["metadata"])
    return {blob.name.removeprefix(root(store)): dict(blob.metadata or {}) async for blob in listed}


async def test_other_tools_see_readable_names_and_metadata(store: AzureBlobStore) -> None:
    await store.put("reports/2026 spring.pdf", b"x", content_type="application/pdf", metadata={"owner": "Ann Lee"})
    found = await in_container(store)
    assert list(found) == ["reports/2026!20spring.pdf"]
    [metadata] = found.values()
    assert metadata.pop("loom_write")
    assert metadata == {"owner": "Ann Lee"}
    raw = store.session.blob(f"{root(store)}reports/2026!20spring.pdf")
    assert (await raw.get_blob_properties()).content_settings.content_type == "application/pdf"


async def test_blobs_of_other_tools_are_read_where_their_names_are_plain(store: AzureBlobStore) -> None:
    for name in ("plain.txt", "not plain.txt", "é", "x!!" + "0" * 64):
        await store.session.blob(root(store) + name).upload_blob(b"theirs", metadata={"Owner": "x"})
    assert await names(store) == ["plain.txt"]
    assert await store.get("plain.txt") == b"theirs"
    info = await store.info("plain.txt")
    assert info is not None
    assert {key.lower() for key in info.metadata} == {"owner"}
    assert info.content_type == "application/octet-stream"
    assert await store.put("plain.txt", b"ours", if_match=info.etag)


async def test_names_that_azure_cannot_hold_are_listed_in_order(store: AzureBlobStore) -> None:
    shared, deep = "é" * 300, "d/" * (DEEPEST + 3)
    expected = [shared + tail for tail in ("", "0", "1", "é", "€", "😀")]
    expected += [deep, f"{deep}a", f"{deep}-", "d", "e", "zz"]
    expected += [f"{'x' * LONGEST}{n:03d}" for n in range(12)] + ["x" * LONGEST, "x" * (LONGEST - 1) + "y", "x"]
    random.Random(7).shuffle(expected)
    await asyncio.gather(*(store.put(name, name.encode()) for name in expected))
    for limit in (1, 3, 1000):
        assert await names(store, limit=limit) == sorted(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_SMALLEST_PAGE", 1)  # so that groups lie across pages of Azure's
        assert await names(store, limit=2) == await names(store, limit=5) == sorted(expected)
    for prefix in (shared, f"{shared}0", deep, "x" * (LONGEST - 1), f"{'x' * LONGEST}01", "é"):
        assert await names(store, prefix, limit=3) == sorted(name for name in expected if name.startswith(prefix))
    for name in expected:
        assert await store.get(name) == name.encode()
    assert max(map(len, await in_container(store))) + len(root(store)) <= 1024


async def test_metadata_that_does_not_fit_is_refused(store: AzureBlobStore) -> None:
    noise = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyzé", k=13_000))
    for metadata in ({"k": "x" * 9000}, {"é": noise}):
        with pytest.raises(TooLargeError, match="Azure holds 8000"):
            await store.put("a", b"", metadata=metadata)
    odd = {"": "empty", "K": "capital", "k k": " ", "x": "", "y": "a  b", "z": "line\nfeed", "loom_write": "mine"}
    await store.put("a", b"", metadata=odd, content_type="")
    info = await store.info("a")
    assert info is not None
    assert (info.metadata, info.content_type) == (odd, "")
    assert (await store.list()).blobs == [info]


async def test_cursors_of_others_are_refused(store: AzureBlobStore) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        await store.list(cursor="x")


async def slowly(data: bytes, meanwhile: asyncio.Event, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    """Enough for several blocks, then a pause, then a little more."""
    yield data * 5 * MIB
    meanwhile.set()
    await go_on.wait()
    yield data


async def _interrupted(store: AzureBlobStore, quick: bytes, **condition: bool | str | None) -> BlobInfo:
    """A stream of several blocks, while another writes the same blob."""
    meanwhile, go_on = asyncio.Event(), asyncio.Event()
    slow = asyncio.create_task(store.put("a", slowly(b"s", meanwhile, go_on), **condition))  # type: ignore[arg-type]
    await meanwhile.wait()
    await store.put("a", quick)
    go_on.set()
    return await slow


async def test_a_commit_drops_the_blocks_of_a_stream_under_way(store: AzureBlobStore) -> None:
    """In Azure a small write, in one request, does so as well; Azurite keeps the blocks then."""
    quick = b"q" * 3 * MIB
    with pytest.raises(BlobConflictError, match="create_only"):
        await _interrupted(store, quick, create_only=True)
    assert await store.get("a") == quick
    info = await store.info("a")
    assert info is not None
    with pytest.raises(BlobConflictError, match="written by another"):
        await _interrupted(store, quick, if_match=info.etag)
    told = await _interrupted(store, quick)
    assert (told.size, told.etag.partition("-")[0]) == (5 * MIB + 1, "superseded")
    assert await store.get("a") == quick, "as if the stream had come just before"
    with pytest.raises(BlobConflictError):
        await store.put("a", b"x", if_match=told.etag)


async def test_large_bytes_that_meet_are_sent_again_and_the_last_wins(store: AzureBlobStore, blob_url: str) -> None:
    async with open_store(blob_url) as other:
        for _ in range(5):
            datas = [bytes([65 + n]) * 3 * MIB for n in range(3)]
            done = await asyncio.gather(
                *((store, other)[n % 2].put("a", data) for n, data in enumerate(datas)), return_exceptions=True
            )
            written = [one for one in done if isinstance(one, BlobInfo)]
            assert written
            assert all(isinstance(one, BlobInfo | StoreUnavailableError) for one in done), done
            info = await store.info("a")
            assert info in written
            assert await store.get("a") == datas[done.index(info)]


async def test_a_blob_that_another_program_has_leased(store: AzureBlobStore) -> None:
    info = await store.put("a", b"x")
    lease = await store.session.blob(f"{root(store)}a").acquire_lease(15)
    for call in (
        store.put("a", b"y"),
        store.put("a", b"y" * 2 * MIB),
        store.delete("a"),
        store.delete("a", if_match=info.etag),
    ):
        with pytest.raises(BlobConflictError, match="leased"):
            await call
    await lease.release()
    assert await store.delete("a") is True


async def test_a_lease_lets_its_holder_write_and_nobody_else(store: AzureBlobStore) -> None:
    await store.put("a", b"x")
    lease = await store.lease("a", seconds=60)
    with pytest.raises(BlobConflictError, match="leased by somebody else"):
        await store.lease("a")
    for size in (1, 3 * MIB):  # in one request, and in blocks
        with pytest.raises(BlobConflictError, match="leased"):
            await store.put("a", b"y" * size)
        info = await store.put("a", b"y" * size, lease=lease)
        assert await store.get("a") == b"y" * size
    info = await store.put("a", b"z", if_match=info.etag, lease=lease)
    await store.renew_lease(lease)
    with pytest.raises(BlobConflictError, match="leased"):
        await store.delete("a")
    assert await store.release_lease(lease) is True
    assert await store.release_lease(lease) is False
    with pytest.raises(BlobConflictError, match="is over"):
        await store.put("a", b"late", lease=lease)
    forever = await store.lease("a", seconds=None)
    with pytest.raises(BlobConflictError, match=r"is over \(.*\); take another"):
        await store.renew_lease(lease)
    assert await store.delete("a", if_match=info.etag, lease=forever) is True
    assert await store.release_lease(forever) is False
    with pytest.raises(BlobNotFoundError):
        await store.lease("a")
    with pytest.raises(ValueError, match="15 to 60 seconds"):
        await store.lease("a", seconds=3)


async def test_progress_tells_what_has_arrived(store: AzureBlobStore) -> None:
    told: list[int] = []
    size = 7 * MIB + 5
    await store.put("large", bytes(size), progress=told.append)
    assert told == sorted(set(told))
    assert len(told) == 4
    assert told[-1] == size
    told.clear()
    await store.put("small", b"12345", progress=told.append)
    assert told == [5]


async def test_a_blob_with_snapshots_is_deleted_with_them(store: AzureBlobStore) -> None:
    await store.put("a", b"x")
    await store.session.blob(f"{root(store)}a").create_snapshot()
    assert await store.delete("a") is True
    assert await store.info("a") is None


async def test_a_blob_of_another_kind_is_told(store: AzureBlobStore) -> None:
    await store.session.blob(f"{root(store)}a").upload_blob(b"line", blob_type=BlobType.APPENDBLOB)
    assert await store.get("a") == b"line"


async def test_stores_of_one_container_keep_apart(azurite: AzuriteServer) -> None:
    urls = [azurite.url("apart", namespace=name) for name in ("a", "a/b", "A", "é")]
    for url in urls:
        async with open_store(url) as store:
            assert (await store.list()).blobs == []
            await store.put("x", url.encode())
    for url in urls[1:]:
        async with open_store(url) as store:
            assert await store.get("x") == url.encode()
            assert await names(store) == ["x"]


async def test_facts(store: AzureBlobStore) -> None:
    facts = await store.facts()
    assert facts["container"].endswith("/devstoreaccount1/tests")
    assert facts["signs in by"] == "the emulators' published key"
    assert facts["public access"] == "none"
    assert facts["round trip"].endswith(" ms (median of 5)")
    assert "StorageV2" in facts["account"]
    assert store.options.secret not in str(facts)


async def test_facts_of_a_server_that_does_not_tell(azurite: AzuriteServer, blob_url: str) -> None:
    async with FaultyProxy(azurite) as proxy, open_store(blob_url.replace(azurite.endpoint, proxy.endpoint)) as store:
        proxy.faults += [Fault(words=("comp=properties",), status=403)]
        proxy.faults += [Fault(words=("/tests?restype=container ",), status=403)]
        facts = await store.facts()
    assert facts["account"] == "does not show what it is to this credential"
    assert facts["public access"] == "not shown to this credential"
