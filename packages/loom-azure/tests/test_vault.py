"""The conformance suite of secrets stores, over the double of Key Vault, and over a vault of yours if you name one."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from loom.plugins import AdapterContext, AdapterRegistry, LoomURL
from loom.ports import SecretsStore
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.secrets import SecretsStoreSuite
from loom_azure.plugin import SECRETS
from loom_azure.vault import AzureKeyVault
from loom_azure.vault_testing import DoubleCredential, KeyVaultDouble


class TestAzureKeyVault(SecretsStoreSuite):
    spec = SECRETS

    @pytest.fixture(autouse=True)
    def _on(self, make_vault: Callable[..., KeyVaultDouble], open_vault: Callable[..., AzureKeyVault]) -> None:
        self.make, self.open = make_vault, open_vault

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        clock = ManualClock()
        vault = self.make(now=clock.now)
        return Harness(lambda: self.open(vault, clock=clock), clock=clock)


@pytest.mark.slow
@pytest.mark.skipif("LOOM_TEST_KEYVAULT_URL" not in os.environ, reason="LOOM_TEST_KEYVAULT_URL names no vault")
class TestAzureKeyVaultOfYours(SecretsStoreSuite):
    spec = SECRETS

    def harness(self, tmp_path: Path) -> Harness[SecretsStore]:
        url = LoomURL.parse(os.environ["LOOM_TEST_KEYVAULT_URL"])
        given = {**url.query, "namespace": f"loom-test-{secrets.token_hex(8)}"}
        return Harness.of_url(AzureKeyVault, f"{url.raw.partition('?')[0]}?{urlencode(given)}", unit=5.0)


def test_the_entry_point_is_found() -> None:
    assert AdapterRegistry().spec("secrets", "keyvault") == SECRETS
    store = AdapterRegistry().open("secrets", "keyvault://shop", AdapterContext())
    assert isinstance(store, AzureKeyVault)


async def test_namespaces_share_a_vault(
    make_vault: Callable[..., KeyVaultDouble], open_vault: Callable[..., AzureKeyVault]
) -> None:
    vault = make_vault()
    async with open_vault(vault, "&namespace=one") as one, open_vault(vault, "&namespace=two") as two:
        await one.set("a", "first")
        await two.set("a", "second")
        assert (await one.get("a")).value.reveal() == "first"
        assert [about.name for about in (await two.list())[0]] == ["a"]
        await two.delete("a")
        assert await one.deleted() == ([], None)
        assert await two.deleted() == (["a"], None)
        assert (await one.get("a")).value.reveal() == "first"
    async with open_vault(vault) as whole:
        assert [about.name for about in (await whole.list())[0]] == ["one-a"]


@pytest.mark.slow
async def test_long_lists_page_and_races_share_a_second(
    make_vault: Callable[..., KeyVaultDouble], open_vault: Callable[..., AzureKeyVault]
) -> None:
    async with open_vault(make_vault(now=lambda: 1_800_000_000.0)) as store:
        made = [await store.set("a", str(number)) for number in range(60)]
        assert [about.version for about in await store.versions("a")] == [about.version for about in reversed(made)]
        await asyncio.gather(*(store.set(f"n{number:03d}", "x") for number in range(60)))
        found, cursor = [], None
        while True:
            page, cursor = await store.list(prefix="n", limit=7, cursor=cursor)
            found += [about.name for about in page]
            if cursor is None:
                break
        assert found == [f"n{number:03d}" for number in range(60)]


async def test_a_token_that_ended_is_renewed(
    make_vault: Callable[..., KeyVaultDouble], open_vault: Callable[..., AzureKeyVault]
) -> None:
    vault = make_vault()
    credential = DoubleCredential(vault)
    async with open_vault(vault, credential=credential) as store:
        await store.set("a", "x")
        assert set(credential.asked) == {"https://vault.azure.net/.default"}
        vault.token = "another"
        assert (await store.get("a")).value.reveal() == "x"


async def test_facts_name_no_secret(
    make_vault: Callable[..., KeyVaultDouble], open_vault: Callable[..., AzureKeyVault]
) -> None:
    async with open_vault(make_vault()) as store:
        assert "not known" in (await store.facts())["deleted secrets"]
        await store.set("planted-name", "planted-value")
        facts = await store.facts()
        assert facts["deleted secrets"] == "can be recovered (Recoverable+Purgeable)"
        assert "planted" not in str(facts)
    async with open_vault(make_vault(soft_delete=False)) as store:
        await store.set("a", "x")
        assert "gone for good" in (await store.facts())["deleted secrets"]
        await store.delete("a")
        await store.set("a", "y")
