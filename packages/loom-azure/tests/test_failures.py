"""A server that throttles, cuts and refuses, and what is said then."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from loom.errors import BlobConflictError, BlobNotFoundError, LoomError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom_azure.blobs import AzureBlobStore
from loom_azure.options import AzureOptions
from loom_azure.proxy import Fault, FaultyProxy
from loom_azure.testing import AzuriteServer

MIB = 2**20


def open_store(url: str) -> AzureBlobStore:
    return AzureBlobStore.from_url(LoomURL.parse(url), AdapterContext())


@pytest.fixture
async def proxy(azurite: AzuriteServer) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(azurite) as proxy:
        yield proxy


@pytest.fixture
def proxied(azurite: AzuriteServer, proxy: FaultyProxy, blob_url: str) -> str:
    return blob_url.replace(azurite.endpoint, proxy.endpoint)


def busy(*words: str, status: int = 503, after: str = "0.2") -> Fault:
    headers = {"x-ms-error-code": "ServerBusy", "Retry-After": after}
    return Fault(words=words, status=status, headers=headers)


@pytest.mark.slow
async def test_a_throttled_server_is_asked_again_when_it_says(proxied: str, proxy: FaultyProxy) -> None:
    async with open_store(proxied) as store:
        for words in (("PUT", "/a"), ("HEAD",), ("GET", "/a"), ("GET", "comp=list"), ("DELETE",)):
            proxy.faults += [busy(*words), busy(*words, status=429)]
        began = time.monotonic()
        info = await store.put("a", b"content")
        assert await store.info("a") == info
        assert await store.get("a") == b"content"
        assert (await store.list()).blobs == [info]
        assert await store.delete("a") is True
        assert time.monotonic() - began > 5 * 2 * 0.2
        assert proxy.faults == []


async def test_a_throttled_block_goes_alone(proxied: str, proxy: FaultyProxy) -> None:
    async with open_store(proxied) as store:
        proxy.faults += [busy("PUT", "comp=block&"), busy("PUT", "comp=blocklist")]
        data = bytes(range(256)) * 20_000
        assert (await store.put("a", data)).size == len(data)
        assert proxy.faults == []
        assert await store.get("a") == data


async def test_the_budget_is_bounded(proxied: str, proxy: FaultyProxy) -> None:
    async with open_store(f"{proxied}&retry_for=1") as store:
        proxy.faults += [busy("PUT", "/a", after="0") for _ in range(100)]
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"too busy.*retry_for=1 s.*ServerBusy 503") as caught:
            await store.put("a", b"content")
        assert time.monotonic() - began < 20
        assert caught.value.unknown is False
        proxy.faults[:] = [busy("PUT", "/a", after="60")]
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await store.put("a", b"content")
        assert time.monotonic() - began < 20, "it will not be waited for a minute, so not at all"
        assert await store.info("a") is None


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_a_lost_answer_is_looked_up(proxied: str, proxy: FaultyProxy, size: int) -> None:
    """The write was made, and so it is told, instead of a conflict with oneself."""
    commit = ("PUT", "/a?comp=blocklist") if size > MIB else ("PUT", "/a ")
    async with open_store(proxied) as store:
        proxy.faults += [Fault(words=commit, lose_answer=True)]
        first = await store.put("a", b"1" * size, create_only=True)
        assert proxy.faults == []
        assert await store.info("a") == first
        proxy.faults += [Fault(words=commit, lose_answer=True)]
        second = await store.put("a", b"2" * size, if_match=first.etag)
        assert await store.info("a") == second != first
        with pytest.raises(BlobConflictError):
            await store.put("a", b"3" * size, if_match=first.etag)
        proxy.faults += [Fault(words=commit, lose_request=True)]
        third = await store.put("a", b"3" * size, if_match=second.etag)
        assert await store.get("a") == b"3" * size
        assert await store.info("a") == third


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_after_a_lost_answer_another_ones_blob_tells_nothing(proxied: str, proxy: FaultyProxy, size: int) -> None:
    """It may have been there before, and it may have replaced what this call had written."""
    commit = ("PUT", "/a?comp=blocklist") if size > MIB else ("PUT", "/a ")
    async with open_store(proxied) as store:
        await store.put("a", b"another's")
        proxy.faults += [Fault(words=commit, lose_answer=True)]
        with pytest.raises(StoreUnavailableError, match="cannot be known") as caught:
            await store.put("a", b"m" * size, create_only=True)
        assert caught.value.unknown is True
        with pytest.raises(BlobConflictError):
            await store.put("a", b"m" * size, create_only=True)
        assert await store.get("a") == b"another's"


async def test_answers_that_are_no_http_show_no_signature(proxied: str, proxy: FaultyProxy) -> None:
    async with open_store(f"{proxied}&retry_for=0.1") as store:
        await store.put("a", b"content")
        proxy.faults += [Fault(words=("GET", "/a?"), status=-1) for _ in range(50)]
        with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
            await store.get("a")
        _shows_no_credential(caught.value, "sig=")


async def test_an_outcome_that_cannot_be_learnt_is_unknown(proxied: str, proxy: FaultyProxy) -> None:
    async with open_store(f"{proxied}&retry_for=0.5") as store:
        proxy.faults += [Fault(words=("PUT", "/a "), lose_answer=True)]
        proxy.faults += [Fault(words=("/a ",), lose_request=True) for _ in range(100)]
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("a", b"content")
        assert caught.value.unknown is True
        proxy.faults.clear()
        assert await store.get("a") == b"content"
        proxy.faults += [Fault(words=("DELETE",), lose_answer=True)]
        with pytest.raises(StoreUnavailableError, match="whether this call deleted it") as caught:
            await store.delete("a")
        assert caught.value.unknown is True
        assert await store.delete("a") is False


async def test_a_cut_download_goes_on_where_it_was(proxied: str, proxy: FaultyProxy) -> None:
    data = bytes(range(256)) * 4 * 4096
    async with open_store(proxied) as store:
        await store.put("a", data)
        proxy.faults += [Fault(words=("GET", "/a?"), body=n) for n in (0, 1, 70_000, 2_000_000)]
        assert await store.get("a") == data
        proxy.faults += [Fault(words=("GET", "/a?"), body=100), Fault(words=("GET", "/a?"), lose_request=True)]
        found = b"".join([chunk async for chunk in store.stream("a", start=1000, length=5000)])
        assert found == data[1000:6000]
        assert proxy.faults == []


@pytest.mark.slow
async def test_a_slow_reader_holds_little_and_keeps_its_version(blob_url: str) -> None:
    """It may pause for longer than a connection may be silent: what is silent then is the reader."""
    async with open_store(f"{blob_url}&timeout=2") as store:
        data = b"x" * (32 * MIB)
        await store.put("a", data)
        stream = store.stream("a")
        found = [await anext(aiter(stream))]
        await store.put("a", b"y" * len(data))
        tracemalloc.start()
        try:
            await asyncio.sleep(3)
            assert tracemalloc.get_traced_memory()[1] < 4 * MIB
        finally:
            tracemalloc.stop()
        found += [chunk async for chunk in stream]
        assert b"".join(found) == data


async def test_a_cut_download_of_a_version_that_is_gone_is_told(proxied: str, proxy: FaultyProxy) -> None:
    data = b"x" * (4 * MIB)
    for change in ("written", "deleted"):
        async with open_store(proxied) as store:
            await store.put("a", data)
            proxy.faults += [Fault(words=("GET", "/a?"), body=100_000)]
            stream = store.stream("a")
            await anext(aiter(stream))
            await (store.put("a", b"y" * len(data)) if change == "written" else store.delete("a"))
            with pytest.raises(StoreUnavailableError, match="written or deleted since; read it again"):
                _ = [chunk async for chunk in stream]


async def test_a_wrong_key(blob_url: str) -> None:
    store = open_store(blob_url.replace("azblob://", "azblob://:d3Jvbmc%3D@"))
    with pytest.raises(
        StoreUnavailableError, match=r"clock.*az storage account keys list --account-name devstoreaccount1"
    ) as e:
        await store.start()
    _shows_no_credential(e.value, "d3Jvbmc")


def _sas(azurite: AzuriteServer, permissions: str, lasts: timedelta) -> str:
    options = AzureOptions.from_url(LoomURL.parse(azurite.url("tests")), {})
    sas = generate_container_sas(
        options.account,
        "tests",
        options.secret,
        permission=ContainerSasPermissions.from_string(permissions),
        start=datetime.now(UTC) - timedelta(days=2),
        expiry=datetime.now(UTC) + lasts,
    )
    return sas.replace("%", "%25").replace("&", "%26").replace("=", "%3D").replace("/", "%2F").replace("+", "%2B")


async def test_a_sas(azurite: AzuriteServer, fresh_url: Callable[[], str]) -> None:
    url = fresh_url().replace("&create=1", "")
    async with open_store(azurite.url("tests")):
        pass  # makes the container, which this SAS may not
    good = url.replace("azblob://", f"azblob://:{_sas(azurite, 'racwdl', timedelta(hours=1))}@")
    async with open_store(good) as store:
        info = await store.put("a/b c", b"content" * MIB)
        assert len(await store.get("a/b c")) == info.size
        assert (await store.list("a/")).blobs == [info]
        assert (await store.facts())["signs in by"] == "a SAS from the URL"
    reading = url.replace("azblob://", f"azblob://:{_sas(azurite, 'rl', timedelta(hours=1))}@")
    async with open_store(reading) as store:
        assert await store.info("a/b c") == info
        with pytest.raises(StoreUnavailableError, match=r"the SAS.*az storage container generate-sas") as caught:
            await store.put("a", b"")
        _shows_no_credential(caught.value, "sig")
    ended = url.replace("azblob://", f"azblob://:{_sas(azurite, 'racwdl', -timedelta(hours=1))}@")
    with pytest.raises(StoreUnavailableError, match=r"ended at .* UTC; make another") as caught:
        await open_store(ended).start()
    _shows_no_credential(caught.value, "sig=")


async def test_a_container_that_is_missing(azurite: AzuriteServer) -> None:
    url = azurite.url("missing").replace("&create=1", "")
    with pytest.raises(
        StoreUnavailableError, match=r"az storage container create --account-name devstoreaccount1 --name"
    ):
        await open_store(url).start()
    with pytest.raises(StoreUnavailableError, match="there is no container 'missing'"):
        await AzureBlobStore.from_url(LoomURL.parse(azurite.url("missing")), AdapterContext(create=False)).start()
    async with open_store(azurite.url("vanishing")) as store:
        await store.session.container.delete_container()
        for call in (
            store.put("a", b""),
            store.put("a", b"x" * 2 * MIB),
            store.info("a"),
            store.get("a"),
            store.list(),
        ):
            with pytest.raises(StoreUnavailableError, match="there is no container 'vanishing'"):
                await call


async def test_a_server_that_is_not_there() -> None:
    url = "azblob://devstoreaccount1/tests?endpoint=http://127.0.0.1:1/devstoreaccount1&retry_for=0.3"
    with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
        await open_store(url).start()
    assert caught.value.unknown is False


async def test_before_start_and_after_close(blob_url: str) -> None:
    store = open_store(blob_url)
    calls = (
        lambda: store.put("a", b""),
        lambda: store.get("a"),
        store.list,
        lambda: store.signed_url("a"),
        store.facts,
    )
    for call in calls:
        with pytest.raises(StoreUnavailableError, match=r"call start\(\) first"):
            await call()
    await store.start()
    await store.start()
    with pytest.raises(BlobNotFoundError):
        await store.get("a")
    await asyncio.gather(store.close(), store.close())
    with pytest.raises(StoreUnavailableError, match=r"call start\(\) first"):
        await store.info("a")


def _shows_no_credential(error: LoomError, secret: str) -> None:
    told: BaseException | None = error
    while told is not None:
        assert secret not in str(told)
        told = told.__cause__
    assert secret not in str(error.context)
