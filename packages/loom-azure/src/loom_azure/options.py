"""What an ``azblob`` URL and Azure's own environment variables say: which container, as whom, how long one waits."""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self
from urllib.parse import parse_qs

import msgspec

from loom.environment import is_loopback
from loom.errors import ConfigurationError
from loom.plugins import LoomURL

from .names import encode

__all__ = ["AzureOptions", "SignIn"]

SignIn = Literal["identity", "key", "sas"]

_EMULATOR = "devstoreaccount1"
# Published by Microsoft for emulators, and the same for all of them: no secret.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_CONTAINER = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$root|\$web")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_LONGEST_NAMESPACE = 120


class AzureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which container, as whom. ``repr`` shows no credentials.

    ``azblob://ACCOUNT/CONTAINER`` signs in by DefaultAzureCredential; ``azblob://:KEY@ACCOUNT/CONTAINER`` by an account
    key and ``azblob://:SAS@…`` by a shared access signature, percent-encoded. The query may set:

    - ``namespace``: what all names of this store begin with in the container, so that several can share it;
    - ``endpoint``: the URL of the account's blob service, where it is not ``https://ACCOUNT.blob.core.windows.net``;
    - ``client_id``: of the user-assigned managed identity to sign in with;
    - ``create`` (0): 1 makes the container, private, where it is missing;
    - ``timeout`` (20): seconds until a connection on which nothing moves is given up;
    - ``connect_timeout`` (5): seconds to connect in;
    - ``retry_for`` (30): seconds for which a request that was throttled or cut is tried again;
    - ``ssl_ca_certs``: a file in PEM of the authorities to trust, instead of the system's;
    - ``parallel`` (4): blocks of a large blob that travel at once, each of 2 MiB or, far into a huge blob, more.

    ``secret`` is the key or the SAS, empty for ``identity``. ``source`` says where it was found.
    """

    account: str
    container: str
    endpoint: str
    sign_in: SignIn = "identity"
    secret: str = ""
    source: str = "DefaultAzureCredential"
    namespace: str = ""
    client_id: str = ""
    create: bool = False
    timeout: float = 20.0
    connect_timeout: float = 5.0
    retry_for: float = 30.0
    parallel: int = 4
    ssl_ca_certs: str = ""

    @classmethod
    def from_url(cls, url: LoomURL, environ: Mapping[str, str] | None = None) -> Self:
        """Raises ConfigurationError, without credentials, for what does not exist or does not fit."""
        environ = os.environ if environ is None else environ
        given: dict[str, Any] = {name: _convert(url, name, text) for name, text in url.query.items()}
        account = url.host.partition(".")[0]
        if not account or url.port is not None:
            raise ConfigurationError(f"{url}: write azblob://ACCOUNT/CONTAINER; a server elsewhere is ?endpoint=URL")
        container = url.path.strip("/")
        if not _CONTAINER.fullmatch(container):
            raise ConfigurationError(
                f"{url}: {container!r} is no container's name: 3 to 63 of a-z, 0-9 and single dashes, for example "
                f"azblob://{account}/blobs"
            )
        if len(encode(given.get("namespace", "x"))) > _LONGEST_NAMESPACE:
            raise ConfigurationError(f"{url}: the namespace is longer than {_LONGEST_NAMESPACE} characters")
        host = url.host if "." in url.host else f"{account}.blob.core.windows.net"
        found = _sign_in(url, account, environ)
        endpoint = given.pop("endpoint", None) or found.pop("endpoint", None) or f"https://{host}"
        found.pop("endpoint", None)
        if "client_id" in given and found:
            raise ConfigurationError(f"{url}: client_id is for signing in by identity, and {found['source']} is given")
        if not found and account == _EMULATOR and _loopback(endpoint):
            found = {"sign_in": "key", "secret": _EMULATOR_KEY, "source": "the emulators' published key"}
        if not _ACCOUNT.fullmatch(account):
            raise ConfigurationError(f"{url}: {account!r} is no storage account's name: 3 to 24 of a-z and 0-9")
        return cls(account=account, container=container, endpoint=endpoint.rstrip("/"), **found, **given)

    def __repr__(self) -> str:
        return f"AzureOptions({self.where} namespace={self.namespace!r} by {self.sign_in})"

    def __rich_repr__(self) -> Any:
        # msgspec's own would show every field to rich, the secret among them.
        yield repr(self)

    @property
    def where(self) -> str:
        """The container, for messages; no credentials."""
        return f"{self.endpoint}/{self.container}"

    @property
    def sas_ends(self) -> datetime | None:
        """When the SAS that one signs in with ends; None where there is none, or it does not say."""
        ends = parse_qs(self.secret).get("se", [""])[0] if self.sign_in == "sas" else ""
        try:
            found = datetime.fromisoformat(ends)
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @property
    def clear_text(self) -> bool:
        """Whether what is sent leaves this machine in plain text."""
        return self.endpoint.startswith("http://") and not _loopback(self.endpoint)


def _sign_in(url: LoomURL, account: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The key or SAS of the URL, or else of the variables that Azure's own tools read; empty for an identity."""
    if url.username:
        raise ConfigurationError(f"{url}: write the key or SAS as a password, azblob://:SECRET@{account}/…; no user")
    if url.password:
        return _secret(url.password, "the URL", str(url))
    text = environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    named = {name.lower(): value for name, value in parts.items()}
    if text and not named:
        raise ConfigurationError(
            "AZURE_STORAGE_CONNECTION_STRING is no connection string: it is NAME=VALUE;NAME=VALUE…"
        )
    if named.get("accountname") == account:
        secret = named.get("accountkey") or named.get("sharedaccesssignature") or ""
        found = _secret(secret, "AZURE_STORAGE_CONNECTION_STRING", str(url)) if secret else {}
        if found and (endpoint := named.get("blobendpoint")):
            found["endpoint"] = endpoint
        return found
    if environ.get("AZURE_STORAGE_ACCOUNT", account) == account:
        for variable in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"):
            if secret := environ.get(variable, ""):
                return _secret(secret, variable, str(url))
    return {}


def _secret(text: str, source: str, shown: str) -> dict[str, Any]:
    """Tell an account key from a SAS, without repeating either."""
    secret = text.strip().removeprefix("?")
    if "sig=" in secret:
        return {"sign_in": "sas", "secret": secret, "source": f"a SAS from {source}"}
    try:
        if base64.b64decode(secret, validate=True):
            return {"sign_in": "key", "secret": secret, "source": f"an account key from {source}"}
    except (binascii.Error, ValueError):
        pass
    raise ConfigurationError(
        f"{shown}: what {source} gives is neither an account key (base64) nor a SAS (sv=…&sig=…); in a URL it must be "
        "percent-encoded: + is %2B, / is %2F, = is %3D, & is %26"
    )


def _loopback(endpoint: str) -> bool:
    return is_loopback(LoomURL.parse(endpoint))


_SETTABLE: dict[str, type] = {
    "namespace": str,
    "endpoint": str,
    "client_id": str,
    "create": bool,
    "timeout": float,
    "connect_timeout": float,
    "retry_for": float,
    "parallel": int,
    "ssl_ca_certs": str,
}

_NOUNS = {int: "a whole number", float: "a number of seconds", bool: "1 or 0", str: "text"}


def _convert(url: LoomURL, name: str, text: str) -> Any:
    kind = _SETTABLE.get(name)
    if kind is None:
        close = difflib.get_close_matches(name, _SETTABLE, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_SETTABLE))}"
        # A SAS pasted behind the container is the likeliest mistake, and its signature must not be shown.
        raise ConfigurationError(
            f"{url.scheme}://{url.host}{url.path}: there is no option {name!r}; {hint}", option=name
        )
    try:
        value: Any = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{url}: {name} must be {_NOUNS[kind]}", option=name) from None
    if kind is float and not 0 < value < 1e6:
        raise ConfigurationError(f"{url}: {name} must be more than zero", option=name)
    if name == "parallel" and not 1 <= value <= 64:
        raise ConfigurationError(f"{url}: parallel is from 1 to 64", option=name)
    if kind is str and not value:
        raise ConfigurationError(f"{url}: {name} is empty", option=name)
    if name == "endpoint" and not re.fullmatch(r"https?://[^/?#@]+(/[^?#@]*)?", text):
        raise ConfigurationError(
            f"{url}: endpoint must be a URL such as https://HOST or http://127.0.0.1:10000/ACCOUNT"
        )
    return value
