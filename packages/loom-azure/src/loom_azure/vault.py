"""AzureKeyVault: secrets in an Azure Key Vault."""

from __future__ import annotations

import asyncio
import builtins
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import msgspec
from azure.core.credentials_async import AsyncTokenCredential

from loom.adapters import secret_rules as rules
from loom.clock import Clock, SystemClock
from loom.errors import SecretNotFoundError, StoreUnavailableError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import Secret, SecretsStore, SecretValue, SecretVersion

from .vault_facts import recovery_level, vault_facts
from .vault_options import VaultOptions
from .vault_session import Refused, VaultSession

__all__ = ["AzureKeyVault"]

T = TypeVar("T")

_ORDER = "loom-order"
# Key Vault can't take a bound away. These bound nothing.
_BEGINNING, _NEVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
_VERSION = re.compile(r"[A-Za-z0-9]{1,64}")
_POLL = 0.2


class AzureKeyVault(SecretsStore):
    """A SecretsStore in one vault, shared by all who may use that.

    Times are whole seconds. The vault tells of a version no more than the second in which it was made, so each that is
    set here has a tag, ``loom-order``, that orders those of one second. Key Vault gives values outside their bounds;
    this class does not. ``list`` walks over the whole vault for each page, 25 secrets a request, because the vault
    promises no order. Requests that were throttled or cut are tried again for ``retry_for`` seconds; a ``set`` that
    was cut may have been made twice then, in two versions of one value.
    """

    def __init__(
        self, options: VaultOptions, *, credential: AsyncTokenCredential | None = None, clock: Clock | None = None
    ) -> None:
        self.options = options
        self._credential = credential
        self._clock = clock or SystemClock()
        self._session: VaultSession | None = None
        self._prefix = f"{options.namespace}-" if options.namespace else ""
        self._starting = asyncio.Lock()

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``keyvault://NAME?…``; the options are those of VaultOptions."""
        return cls(VaultOptions.from_url(url), clock=context.clock)

    async def start(self) -> None:
        async with self._starting:
            if self._session is not None:
                return
            session = VaultSession(self.options, self._credential)
            try:
                await session.first()
            except BaseException:
                await session.close()
                raise
            self._session = session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def set(
        self,
        name: str,
        value: SecretValue | str,
        *,
        not_before: float | None = None,
        expires_at: float | None = None,
    ) -> SecretVersion:
        rules.check_name(name)
        rules.check_bounds(name, not_before, expires_at)
        plain = rules.check_value(name, value)
        bounds = {"not_before": _datetime(not_before), "expires_on": _datetime(expires_at)}
        tags = {_ORDER: f"{time.time_ns():020d}"}
        try:
            made = await self._run(
                "set",
                name,
                lambda client: client.set_secret(self._prefix + name, plain.reveal(), tags=tags, **bounds),
            )
        except Refused as refused:
            raise rules.deleted(name) if refused.deleted else rules.missing(name) from None
        return self._about(made.properties)

    async def get(self, name: str, version: str | None = None) -> Secret:
        rules.check_name(name)
        if version is not None:
            _check_version(name, version)
            return await self._usable(name, version)
        try:
            found = await self._fetch(name, None)
            if found.about.not_before is None or found.about.not_before <= self._clock.now():
                rules.check_usable(found.about, self._clock.now())
                return found
        except Refused as refused:
            if not refused.disabled:
                raise rules.missing(name) from None
        about = rules.current(await self.versions(name), self._clock.now())
        rules.check_usable(about, self._clock.now())
        return await self._usable(name, about.version)

    async def versions(self, name: str) -> builtins.list[SecretVersion]:
        rules.check_name(name)
        found = await self._all("list", name, lambda session: session.properties(versions_of=self._prefix + name))
        if not found:
            raise rules.missing(name)
        found.sort(key=lambda p: (p.created_on, (p.tags or {}).get(_ORDER, "")), reverse=True)
        return [self._about(properties) for properties in found]

    async def list(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None
    ) -> tuple[builtins.list[SecretVersion], str | None]:
        rules.check_prefix(prefix)
        rules.check_limit(limit)
        found = await self._all("list", "", lambda session: session.properties())
        ours = [self._about(properties) for properties in found if properties.name.lower().startswith(self._prefix)]
        wanted = sorted(
            (about for about in ours if about.name.startswith(prefix) and about.name > (cursor or "")),
            key=lambda about: about.name,
        )
        return wanted[:limit], wanted[limit - 1].name if len(wanted) > limit else None

    async def update(
        self,
        name: str,
        version: str,
        *,
        enabled: bool | msgspec.UnsetType = msgspec.UNSET,
        not_before: float | msgspec.UnsetType | None = msgspec.UNSET,
        expires_at: float | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> SecretVersion:
        rules.check_name(name)
        _check_version(name, version)
        changes: dict[str, Any] = {}
        if enabled is not msgspec.UNSET:
            changes["enabled"] = enabled
        if not_before is not msgspec.UNSET:
            changes["not_before"] = _BEGINNING if not_before is None else _datetime(not_before)
        if expires_at is not msgspec.UNSET:
            changes["expires_on"] = _NEVER if expires_at is None else _datetime(expires_at)
        try:
            found = await self._run(
                "update",
                name,
                lambda client: client.update_secret_properties(self._prefix + name, version, **changes),
            )
        except Refused:
            raise _unknown(name, version) from None
        return self._about(found)

    async def delete(self, name: str) -> None:
        rules.check_name(name)
        try:
            # The SDK waits until the vault lists it among the deleted.
            await self._run(
                "delete", name, lambda client: client.delete_secret(self._prefix + name, _polling_interval=_POLL)
            )
        except Refused as refused:
            if not refused.unknown:
                raise rules.missing(name) from None

    async def deleted(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None
    ) -> tuple[builtins.list[str], str | None]:
        rules.check_prefix(prefix)
        rules.check_limit(limit)
        found = await self._all("list", "", lambda session: session.properties(deleted=True))
        names = [one.name.lower() for one in found if one.name.lower().startswith(self._prefix + prefix)]
        wanted = sorted(n for name in names if (n := name[len(self._prefix) :]) > (cursor or ""))
        return wanted[:limit], wanted[limit - 1] if len(wanted) > limit else None

    async def recover(self, name: str) -> None:
        await self._of_deleted(
            "recover",
            name,
            lambda client: client.recover_deleted_secret(self._prefix + name, _polling_interval=_POLL),
        )

    async def purge(self, name: str) -> None:
        await self._of_deleted("purge", name, lambda client: client.purge_deleted_secret(self._prefix + name))

    async def facts(self) -> dict[str, str]:
        return await vault_facts(self._open())

    async def recovery_level(self) -> str | None:
        """How the vault keeps deleted secrets (``Recoverable+Purgeable``); None where it holds none to tell by."""
        return await recovery_level(self._open())

    # -- requests --------------------------------------------------------------------------------------------------

    def _open(self) -> VaultSession:
        if self._session is None:
            raise StoreUnavailableError(f"Key Vault {self.options.vault} is not open; call start() first")
        return self._session

    async def _run(self, doing: str, name: str, request: Callable[[Any], Awaitable[T]]) -> T:
        session = self._open()
        return await session.run(doing, name, lambda: request(session.client))

    async def _all(self, doing: str, name: str, pages: Callable[[VaultSession], Any]) -> builtins.list[Any]:
        """All items of a list; a list that was cut begins anew."""
        session = self._open()
        try:
            return await session.run(doing, name, lambda: _collect(pages(session)))
        except Refused:
            return []

    async def _fetch(self, name: str, version: str | None) -> Secret:
        found = await self._run("get", name, lambda client: client.get_secret(self._prefix + name, version))
        return Secret(about=self._about(found.properties), value=SecretValue(found.value))

    async def _usable(self, name: str, version: str) -> Secret:
        try:
            found = await self._fetch(name, version)
        except Refused as refused:
            if not refused.disabled:
                raise _unknown(name, version) from None
            off = SecretVersion(name=name, version=version, created_at=0.0, enabled=False)
            rules.check_usable(off, self._clock.now())
            raise AssertionError("a disabled version is never usable") from None
        rules.check_usable(found.about, self._clock.now())
        return found

    async def _of_deleted(self, doing: str, name: str, request: Callable[[Any], Awaitable[Any]]) -> None:
        rules.check_name(name)
        try:
            await self._run(doing, name, request)
        except Refused as refused:
            if not refused.unknown:
                raise SecretNotFoundError(f"there is no deleted secret {name!r}", name=name) from None

    def _about(self, properties: Any) -> SecretVersion:
        return SecretVersion(
            name=properties.name.lower()[len(self._prefix) :],
            version=properties.version or "",
            created_at=properties.created_on.timestamp(),
            enabled=properties.enabled is not False,
            not_before=_bound(properties.not_before, _BEGINNING),
            expires_at=_bound(properties.expires_on, _NEVER),
        )


async def _collect(pages: Any) -> list[Any]:
    return [item async for item in pages]


def _datetime(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _bound(at: datetime | None, unbound: datetime) -> float | None:
    return None if at is None or at == unbound else at.timestamp()


def _check_version(name: str, version: str) -> None:
    """Keep what is no version's id out of the path of a request."""
    if not _VERSION.fullmatch(version):
        raise _unknown(name, version)


def _unknown(name: str, version: str) -> SecretNotFoundError:
    return SecretNotFoundError(
        f"there is no version {version[:80]!r} of a secret {name!r}; loom secrets versions {name} lists them", name=name
    )
