"""What a Cosmos URL says: the account, the database, who one is, and how long one waits."""

from __future__ import annotations

import base64
import difflib
import re
from typing import Any, Self

import msgspec

from loom.environment import is_loopback
from loom.errors import ConfigurationError
from loom.plugins import LoomURL

__all__ = ["EMULATOR_KEY", "CosmosOptions"]

EMULATOR_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
"""The key that every Cosmos emulator has; Microsoft publishes it."""

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_DATABASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")


class CosmosOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach an account. ``repr`` shows no key.

    ``cosmos://ACCOUNT.documents.azure.com/DATABASE`` signs in by ``DefaultAzureCredential``; with
    ``cosmos://:KEY@…`` or ``?key=KEY`` it uses an account key. ``cosmos+emulator://127.0.0.1:8081/DATABASE`` is an
    emulator on this machine: its certificate is not checked, and without a key it gets the emulators' own.
    The query may set:

    - ``namespace`` (``loom``): the first part of every partition key, so that several systems can share a database;
    - ``timeout`` (10): seconds to wait for an answer in;
    - ``connect_timeout`` (5): seconds to connect in;
    - ``retry_for`` (10): seconds for which requests that did not run are tried again (throttled, no connection);
    - ``region``: the region to read from first, such as ``West Europe``;
    - ``concurrency`` (32): requests of one batch call that are under way at once.
    """

    endpoint: str = ""
    account: str = ""
    database: str = "loom"
    key: str = ""
    emulator: bool = False
    namespace: str = "loom"
    timeout: float = 10.0
    connect_timeout: float = 5.0
    retry_for: float = 10.0
    region: str = ""
    concurrency: int = 32

    @classmethod
    def from_url(cls, url: LoomURL) -> Self:
        """Raises ConfigurationError, without credentials, for an option that does not exist or does not fit."""
        if url.scheme not in ("cosmos", "cosmos+emulator"):
            raise ConfigurationError(f"{url}: the scheme is neither cosmos nor cosmos+emulator", scheme=url.scheme)
        emulator = url.scheme == "cosmos+emulator"
        host = url.host or ("127.0.0.1" if emulator else "")
        if not host or "," in host:
            raise ConfigurationError(f"{url}: name one account: cosmos://ACCOUNT.documents.azure.com/DATABASE")
        if emulator and not is_loopback(url):
            raise ConfigurationError(
                f"{url}: cosmos+emulator:// does not check certificates and so is for this machine only; "
                "write cosmos:// for an account"
            )
        given: dict[str, Any] = {name: _convert(url, name, text) for name, text in url.query.items()}
        database = url.path.strip("/")
        if not _DATABASE.match(database):
            raise ConfigurationError(
                f"{url}: name the database after the account, in letters, digits, _ and -: …/loom", database=database
            )
        if url.password and "key" in given:
            raise ConfigurationError(f"{url}: the key is given twice, as the password and as ?key=")
        # A + in a query is read as a space, and keys are base64.
        key = url.password or given.pop("key", "").replace(" ", "+")
        given.pop("key", None)
        try:
            base64.b64decode(key, validate=True)
        except ValueError:
            raise ConfigurationError(
                f"{url}: the key is not one (an account's key is base64, and / + = in a URL are %2F %2B %3D); "
                f"see `az cosmosdb keys list --name {host.split('.')[0]} --resource-group GROUP`"
            ) from None
        if not _NAMESPACE.match(given.get("namespace", "loom")):
            raise ConfigurationError(f"{url}: a namespace has up to 100 letters, digits, . _ and -")
        port = f":{url.port}" if url.port else (":8081" if emulator else "")
        shown_host = f"[{host}]" if ":" in host else host
        return cls(
            endpoint=f"https://{shown_host}{port}/",
            account=host.split(".")[0] if not emulator else f"{host}{port}",
            database=database,
            key=key or (EMULATOR_KEY if emulator else ""),
            emulator=emulator,
            **given,
        )

    def __repr__(self) -> str:
        return f"CosmosOptions({self.where} namespace={self.namespace!r})"

    def __rich_repr__(self) -> Any:
        # msgspec's own would show every field to rich, the key among them.
        yield repr(self)

    @property
    def where(self) -> str:
        """Account and database, for messages; no key."""
        return f"{self.endpoint}{self.database}"


_SETTABLE: dict[str, type] = {
    "key": str,
    "namespace": str,
    "timeout": float,
    "connect_timeout": float,
    "retry_for": float,
    "region": str,
    "concurrency": int,
}
_NOUNS = {int: "a whole number", float: "a number of seconds", str: "text"}


def _convert(url: LoomURL, name: str, text: str) -> Any:
    kind = _SETTABLE.get(name)
    if kind is None:
        close = difflib.get_close_matches(name, _SETTABLE, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_SETTABLE))}"
        raise ConfigurationError(f"{url}: there is no option {name!r}; {hint}", option=name)
    try:
        value: Any = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{url}: {name} must be {_NOUNS[kind]}", option=name) from None
    if kind is not str and not (0 if kind is float else 1) <= value < 1e9:
        raise ConfigurationError(f"{url}: {name} is out of range", option=name)
    if kind is str and not value:
        raise ConfigurationError(f"{url}: {name} is empty", option=name)
    return value
