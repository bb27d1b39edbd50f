"""Makes ``support`` importable by the tests here (the workers get the same path by ``PYTHONPATH``), and gives places
to put banks: SQLite files, a redis-server whose namespaces are as good as servers of their own, and the configurations
that the documents show.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from loom.testing.servers import npm_folder

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from support.configurations import Addresses
    from support.places import FilePlace, UrlPlace

    from loom_azure.testing import AzuriteServer
    from loom_azure.vault_testing import KeyVaultDouble
    from loom_cosmos.testing import CosmosServer
    from loom_redis.testing import RedisServer

PACKAGES = Path(__file__).parents[1] / "packages"
_numbers = itertools.count(1)


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    from support.places import FilePlace

    return FilePlace(tmp_path / "bank.db")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that keeps what it has acknowledged. Not for tests that harm it."""
    from loom_redis.testing import RedisServer

    with RedisServer(Path(tmp_path_factory.mktemp("redis")), appendfsync="always") as server:
        yield server


@pytest.fixture
async def redis_place(shared_redis: RedisServer) -> AsyncIterator[UrlPlace]:
    """A namespace that nobody has used."""
    from support.places import MEMBER_TTL, UrlPlace

    url = f"{shared_redis.url}?namespace=test-{next(_numbers)}&member_ttl={MEMBER_TTL}"
    async with UrlPlace.of(url) as place:
        yield place


@pytest.fixture(scope="session")
def shared_cosmos() -> Iterator[CosmosServer]:
    """The server of loom-cosmos' tests, with its corrections; without Node.js the test is skipped, saying why."""
    from loom_cosmos.testing import CosmosServer

    folder = PACKAGES / "loom-cosmos" / "tests" / "server"
    command = ["node", str(folder / "corrected.js"), "{port}", str(_npm(folder, "cosmos")), "{key}"]
    with CosmosServer(command) as server:
        yield server


@pytest.fixture
def cosmos_server(shared_cosmos: CosmosServer) -> Iterator[CosmosServer]:
    """The same server, which the test may make misbehave."""
    yield shared_cosmos
    shared_cosmos.control()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    """Microsoft's emulator of Azure Storage; without Node.js the test is skipped, saying why."""
    from loom_azure.testing import AzuriteServer, azurite_program

    node = PACKAGES / "loom-azure" / "tests" / "node"
    _npm(node, "azurite")
    with AzuriteServer(azurite_program(node), Path(tmp_path_factory.mktemp("azurite"))) as server:
        yield server


@pytest.fixture(scope="session")
def key_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KeyVaultDouble, Path]]:
    """A vault, and who signed for it; whoever runs on this machine has an identity that may use it."""
    from support.vault import identity_of, vault_with_certificate

    folder = Path(tmp_path_factory.mktemp("vault"))
    with (
        vault_with_certificate(folder) as found,
        identity_of(found[0]) as environment,
        pytest.MonkeyPatch.context() as m,
    ):
        for name, value in environment.items():
            m.setenv(name, value)
        yield found


@pytest.fixture
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Addresses]:
    """Of a configuration's servers, each address that its file names, and an empty place on a server of ours.

    The same place however often it is asked for, by other ways: ``redis`` is another server than the shared one,
    ``cosmos_port`` that of a proxy before Cosmos, ``cosmos_options`` go into its URL.
    """
    from support.places import MEMBER_TTL
    from support.vault import vault_url

    mark = f"test-{next(_numbers)}"

    def addresses(
        name: str, redis: RedisServer | None = None, cosmos_port: int = 0, cosmos_options: dict[str, Any] | None = None
    ) -> Addresses:
        if name == "sqlite":
            return {"sqlite:////var/lib/loom/loom.db": f"sqlite:///{tmp_path}/loom.db"}
        redis = redis or request.getfixturevalue("shared_redis")
        assert redis is not None
        blobs = os.environ.get("LOOM_TEST_AZBLOB_URL", "")
        if blobs:
            blobs = f"{blobs}{'&' if '?' in blobs else '?'}namespace={mark}-{os.getpid()}"
        else:
            azurite: AzuriteServer = request.getfixturevalue("azurite")
            blobs = azurite.url("blobs", namespace=mark)
        found = {
            "rediss://redis.example.com:6380/0": f"{redis.url}?namespace={mark}&member_ttl={MEMBER_TTL}",
            "bullmq://redis.example.com:6379/0": f"{redis.url.replace('redis:', 'bullmq:')}?namespace={mark}",
            "azblob://ACCOUNT/blobs": blobs,
        }
        if name != "redis":
            cosmos: CosmosServer = request.getfixturevalue("shared_cosmos")
            url = cosmos.url(mark, **(cosmos_options or {}))
            real = os.environ.get("LOOM_TEST_COSMOS_URL")
            if cosmos_port:
                url = url.replace(f":{cosmos.port}/", f":{cosmos_port}/")
            elif real:
                url = f"{real}{'&' if '?' in real else '?'}namespace={mark}-{os.getpid()}"
            found["cosmos://ACCOUNT.documents.azure.com/loom"] = url
        if name == "hybrid-a":
            found["keyvault://VAULT"] = vault_url(*request.getfixturevalue("key_vault"), mark)
        return found

    return addresses


@pytest.fixture
async def configuration(
    request: pytest.FixtureRequest, addresses: Callable[[str], Addresses], tmp_path: Path
) -> AsyncIterator[UrlPlace]:
    """The place of a configuration of ``deploy/configurations``, whose name is the parameter."""
    from support.configurations import configured

    async with configured(request.param, tmp_path, addresses(request.param), crash_attempts=1000) as place:
        yield place


def _npm(folder: Path, name: str) -> Path:
    try:
        return npm_folder(folder, name)
    except RuntimeError as error:
        pytest.skip(str(error))
