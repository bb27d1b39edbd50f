"""A vault that throttles, cuts and refuses, and what is said then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loom.errors import ConfigurationError, LoomError, SecretDisabledError, SecretNotFoundError, StoreUnavailableError
from loom.guard import GuardConfig, PortConfig
from loom.plugins import LoomURL
from loom_azure.vault import AzureKeyVault
from loom_azure.vault_guard import vault_rules
from loom_azure.vault_options import VaultOptions
from loom_azure.vault_testing import KeyVaultDouble

Make = Callable[..., KeyVaultDouble]
Open = Callable[..., AzureKeyVault]

PLANTED = "planted-7hQ2xZ"


def shows_nothing(error: LoomError) -> None:
    told: BaseException | None = error
    while told is not None:
        assert PLANTED not in str(told) + repr(told)
        told = told.__cause__
    assert PLANTED not in str(error.context)


async def test_a_throttled_vault_is_asked_again_when_it_says(make_vault: Make, open_vault: Open) -> None:
    vault = make_vault()
    async with open_vault(vault) as store:
        for status in (429, 503):
            vault.fail += [(status, "Throttled", {"Retry-After": "0"})] * 2
            await store.set("a", PLANTED)
            assert (await store.get("a")).value.reveal() == PLANTED
            assert vault.fail == []
        vault.fail += [(409, "Conflict", {})]
        with pytest.raises(StoreUnavailableError):
            await store.set("a", PLANTED)


async def test_the_budget_is_bounded(make_vault: Make, open_vault: Open) -> None:
    vault = make_vault()
    async with open_vault(vault, "&retry_for=0.5") as store:
        vault.fail += [(429, "Throttled", {"Retry-After": "0"})] * 1000
        with pytest.raises(
            StoreUnavailableError, match=r"Key Vault shop .*set secret 'a'.*too busy.*retry_for"
        ) as caught:
            await store.set("a", PLANTED)
        shows_nothing(caught.value)
        vault.fail[:] = [(429, "Throttled", {"Retry-After": "60"})]
        with pytest.raises(StoreUnavailableError, match="Throttled 429"):
            await store.get("a")
        assert vault.fail == [], "it will not be waited for a minute, so not at all"


async def test_a_lost_answer_is_asked_for_again(make_vault: Make, open_vault: Open) -> None:
    vault = make_vault()
    async with open_vault(vault) as store:
        vault.lose = 1
        await store.set("a", "x")
        assert len(await store.versions("a")) == 2, "told in the docstring: made twice, with one value"
        vault.lose = 1
        await store.delete("a")
        assert (await store.deleted())[0] == ["a"]
        vault.lose = 1
        await store.purge("a")
        assert (await store.deleted())[0] == []
        with pytest.raises(SecretNotFoundError):
            await store.delete("a")


@pytest.mark.parametrize(
    ("permission", "role"),
    [
        ("get", "Key Vault Secrets User"),
        ("list", "Key Vault Reader"),
        ("set", "Key Vault Secrets Officer"),
        ("update", "Key Vault Secrets Officer"),
        ("delete", "Key Vault Secrets Officer"),
        ("recover", "Key Vault Secrets Officer"),
        ("purge", "Key Vault Administrator"),
    ],
)
async def test_what_an_identity_may_not_do_names_the_role(
    make_vault: Make, open_vault: Open, permission: str, role: str
) -> None:
    vault = make_vault()
    async with open_vault(vault) as store:
        version = (await store.set("a", PLANTED)).version
        await store.set("gone", PLANTED)
        await store.delete("gone")
        vault.deny[permission] = "ForbiddenByRbac"
        call = {
            "get": lambda: store.get("a"),
            "list": store.list,
            "set": lambda: store.set("a", PLANTED),
            "update": lambda: store.update("a", version, enabled=False),
            "delete": lambda: store.delete("a"),
            "recover": lambda: store.recover("gone"),
            "purge": lambda: store.purge("gone"),
        }[permission]
        with pytest.raises(
            StoreUnavailableError, match=rf"{permission} secret.*--role '{role}'.*vaults/shop"
        ) as caught:
            await call()
        assert caught.value.unknown is False
        shows_nothing(caught.value)
        for code, said in (
            ("ForbiddenByPolicy", "set-policy --name shop"),
            ("ForbiddenByFirewall", "network-rule add"),
        ):
            vault.deny[permission] = code
            with pytest.raises(StoreUnavailableError, match=said):
                await call()


async def test_a_disabled_secret_is_no_matter_of_access(make_vault: Make, open_vault: Open) -> None:
    async with open_vault(make_vault()) as store:
        about = await store.set("a", PLANTED)
        await store.update("a", about.version, enabled=False)
        for version in (None, about.version):
            with pytest.raises(SecretDisabledError) as caught:
                await store.get("a", version)
            shows_nothing(caught.value)


async def test_a_refused_token(make_vault: Make, open_vault: Open) -> None:
    vault = make_vault()

    class Expired:
        async def get_token(self, *scopes: str, **_: object) -> object:
            from azure.core.credentials import AccessToken

            return AccessToken(PLANTED, 4_000_000_000)

        async def close(self) -> None: ...

    with pytest.raises(StoreUnavailableError, match=r"token was refused.*az login --tenant") as caught:
        await open_vault(vault, credential=Expired()).start()
    shows_nothing(caught.value)


async def test_an_identity_that_cannot_sign_in(make_vault: Make, open_vault: Open) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    class Nobody:
        async def get_token(self, *scopes: str, **_: object) -> object:
            raise ClientAuthenticationError("nobody is signed in")

        async def close(self) -> None: ...

    with pytest.raises(StoreUnavailableError, match=r"no Azure identity could sign in.*az login"):
        await open_vault(make_vault(), credential=Nobody()).start()


async def test_a_vault_that_is_not_there(make_vault: Make, open_vault: Open) -> None:
    vault = make_vault()
    store = open_vault(vault, "&retry_for=0.3")
    vault.__exit__()
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached.*az keyvault show --name shop"):
        await store.start()
    for call in (store.get("a"), store.set("a", "x"), store.list(), store.facts()):
        with pytest.raises(StoreUnavailableError, match=r"call start\(\) first"):
            await call
    await store.close()


@pytest.mark.parametrize("version", ["../../keys", "a/b", "", "a?x", "ü"])
async def test_a_version_never_leaves_its_path(make_vault: Make, open_vault: Open, version: str) -> None:
    vault = make_vault()
    async with open_vault(vault) as store:
        await store.set("a", "x")
        seen = len(vault.seen)
        with pytest.raises(SecretNotFoundError):
            await store.get("a", version)
        with pytest.raises(SecretNotFoundError):
            await store.update("a", version, enabled=False)
        assert len(vault.seen) == seen


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("keyvault://", "keyvault://NAME"),
        ("keyvault://shop/a", "no path"),
        ("keyvault://shop:443", "keyvault://NAME"),
        ("keyvault://s_p", "the vault's name"),
        ("keyvault://:planted-7hQ2xZ@shop", "no password"),
        ("keyvault://shop?namespce=x", "did you mean 'namespace'"),
        ("keyvault://shop?namespace=A", "1 to 36 of a-z"),
        ("keyvault://shop?timeout=soon", "number of seconds"),
        ("keyvault://shop?retry_for=0", "number of seconds"),
        ("keyvault://shop?endpoint=http://localhost", "a token goes there"),
        ("keyvault://shop?client_id=", "client_id is empty"),
    ],
)
def test_wrong_urls(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        VaultOptions.from_url(LoomURL.parse(url))
    shows_nothing(caught.value)


def test_right_urls() -> None:
    options = VaultOptions.from_url(LoomURL.parse("keyvault://Shop-1?namespace=web&timeout=3"))
    assert (options.endpoint, options.namespace, options.timeout) == ("https://shop-1.vault.azure.net", "web", 3.0)
    assert (
        VaultOptions.from_url(LoomURL.parse("keyvault://shop.vault.azure.cn")).endpoint == "https://shop.vault.azure.cn"
    )


async def test_the_guard(make_vault: Make, open_vault: Open) -> None:
    port = PortConfig(port="secrets", source="LOOM_SECRETS_URL", url=LoomURL.parse("keyvault://shop"))

    async def codes(environ: dict[str, str], store: AzureKeyVault | None = None) -> list[str]:
        adapters = {} if store is None else {"secrets": store}
        config = GuardConfig(ports={"secrets": port}, environ=environ, adapters=adapters)  # type: ignore[arg-type]
        return [finding.code for rule in vault_rules() for finding in await rule.check(config)]

    assert await codes({}) == []
    assert await codes({"AZURE_CLIENT_SECRET": PLANTED}) == ["keyvault-client-secret"]
    for soft_delete, said in ((True, []), (False, ["keyvault-soft-delete"])):
        async with open_vault(make_vault(soft_delete=soft_delete)) as store:
            assert await codes({}, store) == []
            await store.set("a", "x")
            assert await codes({}, store) == said
