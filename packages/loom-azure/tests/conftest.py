"""A real Azurite for the tests of this package, one process for the session; doubles of Key Vault, one each test."""

from __future__ import annotations

import itertools
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from loom.clock import Clock
from loom.plugins import LoomURL
from loom_azure.testing import AzuriteServer, azurite_program
from loom_azure.vault import AzureKeyVault
from loom_azure.vault_options import VaultOptions
from loom_azure.vault_testing import DoubleCredential, KeyVaultDouble

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def azurite_script() -> Path:
    """Azurite's program; without it the test is skipped, saying what to install."""
    try:
        return azurite_program(Path(__file__).parent / "node")
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def azurite(azurite_script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    with AzuriteServer(azurite_script, Path(tmp_path_factory.mktemp("azurite"))) as server:
        yield server


@pytest.fixture
def fresh_url(azurite: AzuriteServer) -> Callable[[], str]:
    """Makes URLs of a namespace that nobody has used."""
    return lambda: azurite.url("tests", namespace=f"test-{next(_numbers)}")


@pytest.fixture
def blob_url(fresh_url: Callable[[], str]) -> str:
    """Such a URL."""
    return fresh_url()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """Who signs the certificates of doubles, and the file that says so."""
    authority = trustme.CA()
    file = Path(tmp_path_factory.mktemp("authority")) / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return authority, file


@pytest.fixture
def make_vault(authority: tuple[trustme.CA, Path]) -> Iterator[Callable[..., KeyVaultDouble]]:
    """Makes empty vaults on this machine; its arguments are those of KeyVaultDouble."""
    with ExitStack() as stack:

        def make(**options: Any) -> KeyVaultDouble:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority[0].issue_cert("localhost").configure_cert(context)
            return stack.enter_context(KeyVaultDouble(context, **options))

        yield make


@pytest.fixture
def open_vault(authority: tuple[trustme.CA, Path]) -> Callable[..., AzureKeyVault]:
    """Builds a store on such a vault; ``query`` is more of its URL."""

    def build(
        vault: KeyVaultDouble, query: str = "", clock: Clock | None = None, credential: Any = None
    ) -> AzureKeyVault:
        url = f"keyvault://shop?endpoint={vault.endpoint}&ssl_ca_certs={authority[1]}{query}"
        options = VaultOptions.from_url(LoomURL.parse(url))
        return AzureKeyVault(options, credential=credential or DoubleCredential(vault), clock=clock)

    return build


@pytest.fixture
def fresh_account_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """As ``fresh_url``, on the account that ``LOOM_TEST_AZBLOB_URL`` names, if it does."""
    account = os.environ.get("LOOM_TEST_AZBLOB_URL")
    if not account:
        local: Callable[[], str] = request.getfixturevalue("fresh_url")
        return local
    mark = "&" if "?" in account else "?"
    return lambda: f"{account}{mark}namespace=test-{os.getpid()}-{next(_numbers)}"
