"""What a ``keyvault`` URL says: which vault, as whom, how long one waits."""

from __future__ import annotations

import difflib
import re
from typing import Any, Self

import msgspec

from loom.environment import is_loopback
from loom.errors import ConfigurationError
from loom.plugins import LoomURL

__all__ = ["VaultOptions", "recoverable"]

_VAULT = re.compile(r"(?!.*--)[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")
_NAMESPACE = re.compile(r"[a-z0-9-]{1,36}")


class VaultOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which vault, as whom. There is no credential in it: one signs in by DefaultAzureCredential.

    ``keyvault://NAME`` is ``https://NAME.vault.azure.net``; a name with dots is the whole host, for other clouds. The
    query may set:

    - ``namespace``: what the names of all secrets of this store begin with in the vault, a dash after it;
    - ``endpoint``: the https URL of the vault, where it is another;
    - ``client_id``: of the user-assigned managed identity to sign in with;
    - ``timeout`` (20): seconds until a connection on which nothing moves is given up;
    - ``connect_timeout`` (5): seconds to connect in;
    - ``retry_for`` (30): seconds for which a request that was throttled or cut is tried again;
    - ``ssl_ca_certs``: a file in PEM of the authorities to trust, instead of the system's.
    """

    vault: str
    endpoint: str
    namespace: str = ""
    client_id: str = ""
    timeout: float = 20.0
    connect_timeout: float = 5.0
    retry_for: float = 30.0
    ssl_ca_certs: str = ""

    @classmethod
    def from_url(cls, url: LoomURL) -> Self:
        """Raises ConfigurationError for what does not exist or does not fit."""
        if url.username or url.password:
            raise ConfigurationError(
                f"{url}: Key Vault takes no password; leave it out, and an identity signs in (by az login, or a "
                "managed one)"
            )
        vault = url.host.partition(".")[0]
        if url.port is not None or url.path.strip("/") or not _VAULT.fullmatch(vault):
            raise ConfigurationError(
                f"{url}: write keyvault://NAME, the vault's name (3 to 24 of letters, digits and single dashes) and no "
                "path; a vault elsewhere is ?endpoint=https://HOST"
            )
        given: dict[str, Any] = {name: _convert(url, name, text) for name, text in url.query.items()}
        host = url.host if "." in url.host else f"{url.host}.vault.azure.net"
        return cls(vault=vault, **{"endpoint": f"https://{host}", **given})

    @property
    def local(self) -> bool:
        """Whether it is no vault of Azure, but something on this machine that a test made."""
        return is_loopback(LoomURL.parse(self.endpoint))


_SETTABLE: dict[str, type] = {
    "namespace": str,
    "endpoint": str,
    "client_id": str,
    "timeout": float,
    "connect_timeout": float,
    "retry_for": float,
    "ssl_ca_certs": str,
}


def _convert(url: LoomURL, name: str, text: str) -> Any:
    kind = _SETTABLE.get(name)
    where = f"keyvault://{url.host}"
    if kind is None:
        close = difflib.get_close_matches(name, _SETTABLE, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_SETTABLE))}"
        raise ConfigurationError(f"{where}: there is no option {name!r}; {hint}", option=name)
    if kind is float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < 1e6:
            raise ConfigurationError(f"{where}: {name} must be a number of seconds, more than zero", option=name)
        return seconds
    if not text:
        raise ConfigurationError(f"{where}: {name} is empty", option=name)
    if name == "namespace" and not _NAMESPACE.fullmatch(text):
        raise ConfigurationError(f"{where}: namespace is 1 to 36 of a-z, 0-9 and -", option=name)
    if name == "endpoint":
        if not re.fullmatch(r"https://[^/?#@]+/?", text):
            raise ConfigurationError(f"{where}: endpoint must be https://HOST; a token goes there", option=name)
        return text.rstrip("/")
    return text


def recoverable(level: str) -> bool:
    """Whether a vault of this recovery level can undo a deletion: all but ``Purgeable``, soft delete turned off."""
    return "recoverable" in level.lower()
