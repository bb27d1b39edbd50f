"""Secrets stores, each broken in one way."""

from __future__ import annotations

import asyncio
import builtins

from loom.adapters.memory.secrets import InMemorySecretsStore
from loom.clock import Clock
from loom.errors import SecretDeletedError, SecretDisabledError, SecretExpiredError
from loom.ports.documents import DocumentStore
from loom.ports.secrets import Rotation, Secret, SecretValue, SecretVersion
from loom.sealing import Keyring

from . import documents as broken


class KeepsTheLastVersionOnly(InMemorySecretsStore):
    """Forgets what a new version replaces."""

    async def versions(self, name: str) -> builtins.list[SecretVersion]:
        return (await super().versions(name))[:1]


class ShowsValuesInItsFacts(InMemorySecretsStore):
    """Tells doctors what it holds."""

    async def facts(self) -> dict[str, str]:
        return {about.name: (await self.get(about.name)).value.reveal() for about in (await self.list())[0]}


class TakesAnyName(InMemorySecretsStore):
    """Takes a name that other backends can't hold."""

    async def set(self, name: str, value: SecretValue | str, **bounds: float | None) -> SecretVersion:  # type: ignore[override]
        return await super().set(name.lower() or "empty", value, **bounds)


class RepeatsARefusedValue(InMemorySecretsStore):
    """Shows in its error what was refused."""

    async def set(self, name: str, value: SecretValue | str, **bounds: float | None) -> SecretVersion:  # type: ignore[override]
        try:
            return await super().set(name, value, **bounds)
        except ValueError as error:
            raise ValueError(f"{error}: {SecretValue.of(value).reveal()!r}") from None


class ListsByTheTimeOfWriting(InMemorySecretsStore):
    """Lists in another order than that of names."""

    async def list(self, **options: object) -> tuple[builtins.list[SecretVersion], str | None]:  # type: ignore[override]
        found, cursor = await super().list(**options)  # type: ignore[arg-type]
        return found[::-1], cursor


class PrefixesAreFolders(InMemorySecretsStore):
    """Takes a prefix for the part of a name that stands before a dash."""

    async def list(self, *, prefix: str = "", **options: object) -> tuple[builtins.list[SecretVersion], str | None]:  # type: ignore[override]
        found, cursor = await super().list(prefix=prefix, **options)  # type: ignore[arg-type]
        return [about for about in found if not prefix or about.name[len(prefix) :][:1] in ("", "-")], cursor


class KeepsFewVersions(InMemorySecretsStore):
    """Drops versions that a store must keep."""

    async def versions(self, name: str) -> builtins.list[SecretVersion]:
        return (await super().versions(name))[:20]


class StepsOverTheDisabled(InMemorySecretsStore):
    """Gives an older value when the current version is disabled."""

    async def get(self, name: str, version: str | None = None) -> Secret:
        try:
            return await super().get(name, version)
        except SecretDisabledError:
            enabled = [about for about in await self.versions(name) if about.enabled]
            return await super().get(name, enabled[0].version)


class GivesWhatExpired(InMemorySecretsStore):
    """Takes the end of a version for a remark."""

    async def get(self, name: str, version: str | None = None) -> Secret:
        try:
            return await super().get(name, version)
        except SecretExpiredError as error:
            await self.update(name, str(error.context["version"]), expires_at=None)
            return await super().get(name, version)


class GivesWhatIsForLater(InMemorySecretsStore):
    """Takes the newest version for the current one."""

    async def get(self, name: str, version: str | None = None) -> Secret:
        return await super().get(name, version or (await self.versions(name))[0].version)


class RotatesAtOnce(InMemorySecretsStore):
    """Ends the earlier versions when the new one begins."""

    async def rotate(self, name: str, value: SecretValue | str, *, overlap: float = 0.0) -> Rotation:
        return await super().rotate(name, value, overlap=min(overlap, 0.0))


class DeletesTheNewestOnly(InMemorySecretsStore):
    """Leaves the versions before."""

    async def delete(self, name: str) -> None:
        newest = (await self.versions(name))[0]
        await self.update(name, newest.version, enabled=False)


class RecoversTheNewestOnly(InMemorySecretsStore):
    """Brings back one version of several."""

    async def recover(self, name: str) -> None:
        await super().recover(name)
        newest = await self.get(name)
        await self.delete(name)
        await self.purge(name)
        await self.set(name, newest.value)


class SetsOverADeletedOne(InMemorySecretsStore):
    """Makes a deletion that could have been undone final."""

    async def set(self, name: str, value: SecretValue | str, **bounds: float | None) -> SecretVersion:  # type: ignore[override]
        try:
            return await super().set(name, value, **bounds)
        except SecretDeletedError:
            await self.purge(name)
            return await super().set(name, value, **bounds)


class PurgesTheLiving(InMemorySecretsStore):
    """Does not look whether the secret was deleted."""

    async def purge(self, name: str) -> None:
        try:
            await self.delete(name)
        finally:
            await super().purge(name)


class LooksBeforeItWrites(InMemorySecretsStore):
    """Reads the list of versions, waits, and writes it over what others added."""

    async def set(self, name: str, value: SecretValue | str, **bounds: float | None) -> SecretVersion:  # type: ignore[override]
        head = await self._documents.get("secrets", name, "head")
        before = [] if head is None else head.body["versions"]
        await asyncio.sleep(0)
        about = await super().set(name, value, **bounds)
        found = await self._documents.get("secrets", name, "head")
        assert found is not None
        rows = [row for row in found.body["versions"] if row["version"] == about.version] + before
        await self._documents.put("secrets", name, "head", {**found.body, "versions": rows})
        return about


class CachesForEver(InMemorySecretsStore):
    """Answers from its memory what another client has changed."""

    def __init__(
        self, documents: DocumentStore | None = None, *, keyring: Keyring | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__(documents, keyring=keyring, clock=clock)
        self._seen: dict[tuple[str, str | None], Secret] = {}

    async def get(self, name: str, version: str | None = None) -> Secret:
        if (name, version) not in self._seen:
            self._seen[name, version] = await super().get(name, version)
        return self._seen[name, version]


class IsNotDurable(InMemorySecretsStore):
    """Declares that it is, over documents that are not."""

    def __init__(
        self, documents: DocumentStore | None = None, *, keyring: Keyring | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__(documents or broken.IsNotDurable(clock=clock), keyring=keyring, clock=clock)

    async def close(self) -> None:
        await super().close()
        await self._documents.close()
