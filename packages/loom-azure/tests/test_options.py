"""What the URLs and Azure's environment variables mean, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from loom.errors import ConfigurationError
from loom.plugins import LoomURL
from loom_azure.options import AzureOptions

KEY = "c2VjcmV0LWtleQ=="
SAS = "sv=2024-11-04&se=2031-01-02T03%3A04%3A05Z&sr=c&sp=racwdl&sig=geheim%3D"


def _options(url: str, **environ: str) -> AzureOptions:
    return AzureOptions.from_url(LoomURL.parse(url), environ)


def test_a_plain_url() -> None:
    options = _options("azblob://shop/files?namespace=a/b&timeout=2.5&parallel=8&client_id=some-id")
    assert (options.account, options.container, options.namespace) == ("shop", "files", "a/b")
    assert (options.timeout, options.parallel, options.client_id) == (2.5, 8, "some-id")
    assert (options.sign_in, options.secret) == ("identity", "")
    assert options.where == "https://shop.blob.core.windows.net/files"


def test_a_whole_host() -> None:
    options = _options("azblob://shop.blob.core.chinacloudapi.cn/files")
    assert (options.account, options.endpoint) == ("shop", "https://shop.blob.core.chinacloudapi.cn")


def test_credentials_in_the_url() -> None:
    key = _options(f"azblob://:{KEY.replace('=', '%3D')}@shop/files")
    assert (key.sign_in, key.secret) == ("key", KEY)
    sas = _options(f"azblob://:{SAS.replace('%', '%25').replace('&', '%26').replace('=', '%3D')}@shop/files")
    assert (sas.sign_in, sas.secret) == ("sas", SAS)
    assert str(sas.sas_ends) == "2031-01-02 03:04:05+00:00"
    assert key.sas_ends is None
    for options in (key, sas):
        assert options.secret not in repr(options)
        assert list(options.__rich_repr__()) == [repr(options)]


def test_credentials_of_the_environment() -> None:
    text = f"DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={KEY};BlobEndpoint=https://blobs.example.com/"
    options = _options("azblob://shop/files", AZURE_STORAGE_CONNECTION_STRING=text)
    assert (options.sign_in, options.secret, options.endpoint) == ("key", KEY, "https://blobs.example.com")
    assert _options("azblob://other/files", AZURE_STORAGE_CONNECTION_STRING=text).sign_in == "identity"
    sas = _options(
        "azblob://shop/files", AZURE_STORAGE_CONNECTION_STRING=f"AccountName=shop;SharedAccessSignature={SAS}"
    )
    assert (sas.sign_in, sas.secret) == ("sas", SAS)
    assert _options("azblob://shop/files", AZURE_STORAGE_KEY=KEY).secret == KEY
    assert _options("azblob://shop/files", AZURE_STORAGE_SAS_TOKEN=f"?{SAS}").secret == SAS
    assert _options("azblob://shop/files", AZURE_STORAGE_KEY=KEY, AZURE_STORAGE_ACCOUNT="other").secret == ""


def test_an_emulator_needs_no_key() -> None:
    options = _options("azblob://devstoreaccount1/files?endpoint=http://127.0.0.1:10000/devstoreaccount1")
    assert (options.sign_in, options.clear_text) == ("key", False)
    away = _options("azblob://devstoreaccount1/files?endpoint=http://10.0.0.7:10000/devstoreaccount1")
    assert (away.sign_in, away.clear_text) == ("identity", True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("azblob://", "azblob://ACCOUNT/CONTAINER"),
        ("azblob://shop:8080/files", r"\?endpoint=URL"),
        ("azblob://shop", "no container's name"),
        ("azblob://shop/Files", "no container's name"),
        ("azblob://shop/a/b", "no container's name"),
        ("azblob://s_p/files", "no storage account's name"),
        ("azblob://shop/files?namespce=x", "did you mean 'namespace'"),
        ("azblob://shop/files?timeout=soon", "number of seconds"),
        ("azblob://shop/files?timeout=0", "more than zero"),
        ("azblob://shop/files?parallel=0", "from 1 to 64"),
        ("azblob://shop/files?namespace=", "namespace is empty"),
        ("azblob://shop/files?namespace=" + "x" * 121, "longer than 120"),
        ("azblob://shop/files?endpoint=shop.example.com", "endpoint must be a URL"),
        ("azblob://user:c2VjcmV0@shop/files", "no user"),
        ("azblob://:geheim!@shop/files", "neither an account key"),
        (f"azblob://shop/files?{SAS}", "no option"),
        ("azblob://:c2VjcmV0@shop/files?client_id=x", "signing in by identity"),
    ],
)
def test_wrong_urls_are_told_without_credentials(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        _options(url)
    for secret in ("geheim", "c2VjcmV0"):
        assert secret not in str(caught.value)


def test_a_wrong_connection_string() -> None:
    with pytest.raises(ConfigurationError, match="AZURE_STORAGE_CONNECTION_STRING") as caught:
        _options("azblob://shop/files", AZURE_STORAGE_CONNECTION_STRING="geheim")
    assert "geheim" not in str(caught.value)
