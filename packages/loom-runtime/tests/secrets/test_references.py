"""References in configuration: resolved late, and told of without their values."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from loom.errors import ConfigurationError, SecretReferenceError
from loom.plugins import LoomURL
from loom.ports.secrets import SecretValue
from loom.secrets import InMemorySecretsClient, has_references, resolve, resolve_all, resolve_url

PLANTED = "planted-7hQ/2x:Z@#%"


@pytest.fixture
async def secrets() -> AsyncIterator[InMemorySecretsClient]:
    given = {
        "password": PLANTED, "user": "ada", "whole": "server=${secret:user}:${secret:password}",
        "cycle-a": "${secret:cycle-b}",
        "cycle-b": f"{PLANTED} ${{secret:cycle-a}}", "itself": "${secret:itself}", "dangling": "${secret:nobody}",
        "odd": f"${{secret:{PLANTED}}}", "twice": "${secret:user}${secret:user}",
    }  # fmt: skip
    async with InMemorySecretsClient(given) as client:
        yield client


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("plain", "plain"),
        ("${secret:user}", "ada"),
        ("a ${secret:user} b ${secret:password}", f"a ada b {PLANTED}"),
        ("${secret:whole}", f"server=ada:{PLANTED}"),
        ("${secret:twice}", "adaada"),
        ("$${secret:user} $${x} $5 ${HOME}", "${secret:user} ${x} $5 ${HOME}"),
    ],
)
async def test_references_are_replaced(secrets: InMemorySecretsClient, text: str, resolved: str) -> None:
    found = await resolve(text, secrets)
    assert isinstance(found, SecretValue)
    assert found.reveal() == resolved
    version = (await secrets.store.versions("user"))[0].version
    assert (await resolve(f"${{secret:user@{version}}}", secrets)).reveal() == "ada"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${secret:nobody}", r"LOOM_X: \$\{secret:nobody\}: there is no secret 'nobody'"),
        ("${secret:dangling}", r"\$\{secret:dangling\} -> \$\{secret:nobody\}: there is no secret"),
        ("${secret:itself}", r"\$\{secret:itself\} -> \$\{secret:itself\}: leads back to itself"),
        ("x${secret:cycle-a}", r"cycle-a\} -> \$\{secret:cycle-b\} -> \$\{secret:cycle-a\}: leads back to itself"),
        ("${secret:user@0}", "has no version '0'"),
        ("${secret:}", "a malformed reference"),
        ("${secret:A B}", "a malformed reference"),
        ("${secret:user", "a malformed reference"),
        ("${secret}", "a malformed reference"),
        ("${secret:odd}", "a malformed reference;"),
    ],
)
async def test_what_leads_nowhere_is_told_with_its_way(secrets: InMemorySecretsClient, text: str, said: str) -> None:
    assert has_references(text)
    with pytest.raises(SecretReferenceError, match=said) as caught:
        await resolve(text, secrets, where="LOOM_X")
    assert "planted" not in str(caught.value) + str(caught.value.context) + repr(caught.value.__cause__)


async def test_disabled_and_expired_ones_lead_nowhere(secrets: InMemorySecretsClient) -> None:
    about = (await secrets.store.versions("user"))[0]
    await secrets.store.update("user", about.version, enabled=False)
    with pytest.raises(SecretReferenceError, match="is disabled"):
        await resolve("${secret:user}", secrets)
    await secrets.store.update("user", about.version, enabled=True, expires_at=1.0)
    with pytest.raises(SecretReferenceError, match="expired at"):
        await resolve("${secret:user}", secrets)


async def test_a_tree_shows_what_is_no_secret(secrets: InMemorySecretsClient) -> None:
    tree = {"host": "db", "port": 5, "login": ["${secret:user}", "$${x}", {"p": "${secret:password}"}], "on": True}
    found = await resolve_all(tree, secrets)
    assert (found["host"], found["port"], found["on"]) == ("db", 5, True)
    assert [found["login"][0].reveal(), found["login"][1]] == ["ada", "${x}"]
    assert PLANTED not in repr(found)
    assert found["login"][2]["p"].reveal() == PLANTED
    with pytest.raises(SecretReferenceError, match=r"app: a\[1\]: \$\{secret:nobody\}"):
        await resolve_all({"a": ["x", "${secret:nobody}"]}, secrets, where="app")


async def test_a_url_keeps_showing_the_reference(secrets: InMemorySecretsClient) -> None:
    url = LoomURL.parse("redis://${secret:user}:${secret:password}@cache:6379/0?sig=${secret:password}&timeout=5")
    found = await resolve_url(url, secrets)
    assert (found.username, found.password, found.host, found.port) == ("ada", PLANTED, "cache", 6379)
    assert found.query == {"sig": PLANTED, "timeout": "5"}
    assert str(found) == str(url)
    for shown in (str(found), repr(found), f"{found}"):
        assert "planted" not in shown
    plain = LoomURL.parse("redis://cache:6379/0")
    assert await resolve_url(plain, secrets) is plain


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///${secret:user}.db",
        "redis://a:b@c/${secret:user}",
        "redis://c/0?${secret:user}=1",
    ],
)
async def test_a_reference_stands_where_nothing_is_shown(secrets: InMemorySecretsClient, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"LOOM_URL: a .* which messages show"):
        await resolve_url(LoomURL.parse(url), secrets, where="LOOM_URL")
