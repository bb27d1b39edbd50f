"""Signed URLs, by key and by an identity; and a store that signs in by an identity, over https."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import trustme
from azure.core.credentials import AccessToken

from loom.errors import ConfigurationError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.testing.suites.base import eventually
from loom_azure.blobs import AzureBlobStore
from loom_azure.options import AzureOptions
from loom_azure.session import Session
from loom_azure.signing import Signer
from loom_azure.testing import AzuriteServer

_NEWEST_OF_AZURITE = "2026-02-06"


def fetch(url: str, data: bytes | None = None) -> Any:
    """GET, or PUT the data, as anybody would."""
    headers = {} if data is None else {"x-ms-blob-type": "BlockBlob"}
    request = urllib.request.Request(url, data=data, headers=headers, method="GET" if data is None else "PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers


def refused(url: str, data: bytes | None = None) -> int:
    try:
        fetch(url, data)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 0


class Identity:
    """Hands out tokens as an identity does; Azurite looks at what they say, not at who signed them."""

    def __init__(self, lasts: int = 3600) -> None:
        self._lasts = lasts
        self.asked: list[str] = []

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked += scopes
        now = int(time.time())
        said = {
            "aud": "https://storage.azure.com",
            "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + self._lasts,
            "oid": "68390a19-a897-236b-b453-488abf67b4fc",
            "tid": "ab1f708d-50f6-404c-a006-d71b2ac7a606",
        }
        parts = [{"alg": "RS256", "typ": "JWT"}, said]
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return AccessToken(".".join([*encoded, "c2lnbmVk"]), now + self._lasts)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aenter__(self) -> Identity:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def secure(azurite_script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    folder = Path(tmp_path_factory.mktemp("secure"))
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    with AzuriteServer(azurite_script, folder / "data", certificate=certificate, key=key) as server:
        yield server


@pytest.fixture(scope="module")
def authority(secure: AzuriteServer) -> str:
    return str(secure.folder.parent / "ca.pem")


@pytest.fixture
async def store(blob_url: str) -> AsyncIterator[AzureBlobStore]:
    async with AzureBlobStore.from_url(LoomURL.parse(blob_url), AdapterContext()) as store:
        yield store


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
async def by_identity(secure: AzuriteServer, authority: str, identity: Identity) -> AsyncIterator[AzureBlobStore]:
    url = secure.url("tests", namespace="identity", ssl_ca_certs=authority)
    options = AzureOptions.from_url(LoomURL.parse(url), {})
    async with AzureBlobStore(options, credential=identity) as store:
        yield store


async def test_a_signed_url_by_key(store: AzureBlobStore) -> None:
    await _signs(store)


async def test_a_signed_url_by_an_identity(by_identity: AzureBlobStore) -> None:
    """Fetched where Azurite knows the version by which the SDK signs; that of newer SDKs it doesn't."""
    said = parse_qs(urlsplit(await by_identity.signed_url("a/b c", seconds=60)).query)
    assert (said["sp"], said["sr"], said["spr"], said["sks"]) == (["r"], ["b"], ["https"], ["b"])
    assert said["skoid"] == ["68390a19-a897-236b-b453-488abf67b4fc"]
    assert said["se"] <= said["ske"]
    if said["sv"][0] > _NEWEST_OF_AZURITE:
        pytest.skip(f"Azurite does not know how version {said['sv'][0]} signs by an identity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", by_identity.options.ssl_ca_certs)  # for urllib
        await _signs(by_identity)


async def _signs(store: AzureBlobStore) -> None:
    name = "reports/é & co?.txt"
    await store.put(name, b"content", content_type="text/plain")
    url = await store.signed_url(name, seconds=60, content_disposition='attachment; filename="r.txt"')
    body, headers = fetch(url)
    assert (body, headers["Content-Type"]) == (b"content", "text/plain")
    assert headers["Content-Disposition"] == 'attachment; filename="r.txt"'
    assert refused(url, b"other") == 403
    assert refused(url.replace("reports", "secrets")) == 403
    write = await store.signed_url("uploaded", write=True)
    fetch(write, b"from outside")
    assert refused(write) == 403
    assert await store.get("uploaded") == b"from outside"
    assert store.options.secret not in (url if store.options.sign_in == "key" else "-")
    for seconds in (0, -1, 8 * 86_400):
        with pytest.raises(ValueError, match="at most 7 days"):
            await store.signed_url(name, seconds=seconds)


async def test_a_signed_url_ends(store: AzureBlobStore) -> None:
    await store.put("a", b"content")
    url = await store.signed_url("a", seconds=1)
    await eventually(lambda: refused(url), "the URL has ended")
    assert refused(url) == 403


async def test_a_store_by_an_identity(by_identity: AzureBlobStore, identity: Identity) -> None:
    data = bytes(range(256)) * 20_000
    info = await by_identity.put("large", data, create_only=True)
    assert await by_identity.get("large") == data
    assert await by_identity.info("large") == info
    assert (await by_identity.list("l")).blobs == [info]
    assert await by_identity.delete("large", if_match=info.etag) is True
    assert set(identity.asked) == {"https://storage.azure.com/.default"}
    assert (await by_identity.facts())["signs in by"] == "an identity"


async def test_one_delegation_key_signs_many(by_identity: AzureBlobStore) -> None:
    urls = [await by_identity.signed_url("a", seconds=60 * n) for n in range(1, 5)]
    keys = {part for url in urls for part in url.split("&") if part.startswith("ske=")}
    assert len(keys) == 1
    longer = await by_identity.signed_url("a", seconds=6 * 86_400)
    assert not keys & set(longer.split("&"))
    assert "spr=https" in longer


async def test_a_certificate_that_is_not_trusted(secure: AzuriteServer) -> None:
    options = AzureOptions.from_url(LoomURL.parse(secure.url("tests")), {})
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached.*CERTIFICATE_VERIFY_FAILED"):
        await AzureBlobStore(options, credential=Identity()).start()


async def test_authorities_that_cannot_be_read(secure: AzuriteServer) -> None:
    options = AzureOptions.from_url(LoomURL.parse(secure.url("tests", ssl_ca_certs="/nowhere.pem")), {})
    with pytest.raises(ConfigurationError, match=r"ssl_ca_certs=/nowhere\.pem"):
        await AzureBlobStore(options, credential=Identity()).start()


async def test_an_identity_that_is_not_let_in(secure: AzuriteServer, authority: str) -> None:
    options = AzureOptions.from_url(LoomURL.parse(secure.url("tests", ssl_ca_certs=authority)), {})
    with pytest.raises(StoreUnavailableError, match="az role assignment create --role 'Storage Blob Data Contributor'"):
        await AzureBlobStore(options, credential=Identity(lasts=-1800)).start()


async def test_no_identity_at_all(secure: AzuriteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "MSI_ENDPOINT", "IDENTITY_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    # The only one that is asked, and it has nothing.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    url = f"azblob://shop/tests?endpoint={secure.endpoint}"
    store = AzureBlobStore.from_url(LoomURL.parse(url), AdapterContext())
    assert store.options.sign_in == "identity"
    with pytest.raises(StoreUnavailableError, match=r"no Azure identity could sign in; run az login"):
        await store.start()


async def test_a_store_by_sas_refuses_to_sign(store: AzureBlobStore) -> None:
    query = quote((await store.signed_url("a")).partition("?")[2], safe="")
    url = f"azblob://:{query}@devstoreaccount1/tests?endpoint={store.options.endpoint}"
    session = Session(AzureOptions.from_url(LoomURL.parse(url), {}), None)
    try:
        with pytest.raises(ConfigurationError, match="a SAS cannot sign for others"):
            await Signer(session).url("a", 60, write=False, content_disposition=None)
    finally:
        await session.close()
