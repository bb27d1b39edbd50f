"""The guard's rules, on what URLs say and on containers of a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from azure.storage.blob import PublicAccess, RetentionPolicy

from loom.guard import Finding, GuardConfig, PortConfig, validate_production_config
from loom.plugins import AdapterContext, LoomURL
from loom_azure.blobs import AzureBlobStore
from loom_azure.guard import azure_rules
from loom_azure.testing import AzuriteServer


async def _of_url(url: str, **environ: str) -> dict[str, Finding]:
    port = PortConfig(port="blobs", source="LOOM_BLOBS_URL", url=LoomURL.parse(url))
    config = GuardConfig(ports={"blobs": port}, environ=environ)
    return {finding.code: finding for rule in azure_rules() for finding in await rule.check(config)}


async def _of_store(url: str, access: PublicAccess | None = None) -> dict[str, Finding]:
    parsed = LoomURL.parse(url)
    async with AzureBlobStore.from_url(parsed, AdapterContext()) as store:
        await store.session.container.set_container_access_policy({}, public_access=access)
        port = PortConfig(port="blobs", source="LOOM_BLOBS_URL", url=parsed)
        config = GuardConfig(ports={"blobs": port}, adapters={"blobs": store})
        return {finding.code: finding for rule in azure_rules() for finding in await rule.check(config)}


async def test_an_identity_is_as_it_should_be() -> None:
    assert await _of_url("azblob://shop/files") == {}
    assert await _of_url("file:///var/lib/blobs") == {}
    assert await _of_url("azblob://shop/files?wrong=1") == {}


@pytest.mark.parametrize(("access", "said"), [(PublicAccess.BLOB, "blob"), (PublicAccess.CONTAINER, "container")])
async def test_a_public_container(azurite: AzuriteServer, access: PublicAccess, said: str) -> None:
    found = await _of_store(azurite.url("public"), access)
    assert (found["azblob-public"].severity, found["azblob-public"].port) == ("refuse", "blobs")
    assert f"public access is {said!r}" in found["azblob-public"].reason
    assert "az storage container set-permission" in found["azblob-public"].remedy
    assert "azblob-public" not in await _of_store(azurite.url("public"))


async def test_soft_delete(azurite: AzuriteServer) -> None:
    url = azurite.url("soft")
    async with AzureBlobStore.from_url(LoomURL.parse(url), AdapterContext()) as store:
        service = store.session.service
        for policy, told, fact in (
            (RetentionPolicy(enabled=True, days=7), False, "7 days"),
            (RetentionPolicy(enabled=False), True, "off"),
        ):
            await service.set_service_properties(delete_retention_policy=policy)
            found = await _of_store(url)
            assert ("azblob-soft-delete" in found) is told
            assert (await store.facts())["soft delete"] == fact
    assert found["azblob-soft-delete"].severity == "warn"
    assert "--enable-delete-retention true" in found["azblob-soft-delete"].remedy
    assert "azblob-soft-delete" not in await _of_url("azblob://shop/files"), "nothing was opened"


async def test_an_account_key() -> None:
    in_url, in_environment = "azblob://:c2VjcmV0@shop/files", {"AZURE_STORAGE_KEY": "c2VjcmV0"}
    for found in (await _of_url(in_url), await _of_url("azblob://shop/files", **in_environment)):
        assert list(found) == ["azblob-shared-key"]
        assert found["azblob-shared-key"].severity == "warn"
        assert "c2VjcmV0" not in str(found)


async def test_a_sas_that_ends() -> None:
    for days, told in ((30, False), (6, True), (-1, True)):
        ends = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = await _of_url(f"azblob://:{quote(f'sv=1&se={ends}&sig=geheim', safe='')}@shop/files")
        assert ("azblob-sas" in found) is told
        assert "geheim" not in str(found)


async def test_plain_text_off_this_machine() -> None:
    text = "AccountName=shop;AccountKey=c2VjcmV0;BlobEndpoint=http://10.0.0.7/shop"
    assert "azblob-clear-text" in await _of_url("azblob://shop/files", AZURE_STORAGE_CONNECTION_STRING=text)
    near = text.replace("10.0.0.7", "127.0.0.1")
    assert "azblob-clear-text" not in await _of_url("azblob://shop/files", AZURE_STORAGE_CONNECTION_STRING=near)


def test_codes_are_the_plugins_own() -> None:
    codes = [rule.code for rule in azure_rules()]
    assert len(set(codes)) == len(codes)
    assert all(code.startswith("azblob-") for code in codes)
    assert validate_production_config is not None
