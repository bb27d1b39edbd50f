"""Secrets as documents, sealed."""

from __future__ import annotations

import base64
import builtins
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import msgspec

from ...clock import Clock, SystemClock
from ...errors import DocumentConflictError, PortError, SealError, SecretConflictError, SecretNotFoundError
from ...ports.documents import Collection, Condition, Delete, Document, DocumentStore, Operation, Put, Query
from ...ports.secrets import MIN_VERSIONS, Secret, SecretsStore, SecretValue, SecretVersion
from ...sealing import Keyring, Sealed, Sealer
from .. import secret_rules as rules
from .base import DerivedStore

__all__ = ["DocumentSecretsStore", "Resealed"]

_COLLECTION = "secrets"
_HEAD = "head"
_LIVE, _DELETED = "live", "deleted"
# No secret's name is one of these: they hold what belongs to the store.
_STORE = ("/store", "id")
_ATTEMPTS = 100
_PAGE = 100
_AFTER_ANY_NAME = "\x7f"


class Resealed(msgspec.Struct, frozen=True):
    """What ``reseal`` did: values it sealed anew, and values that the primary key had sealed already."""

    resealed: int
    current: int


class DocumentSecretsStore(DerivedStore, SecretsStore):
    """A SecretsStore over any DocumentStore. Values are sealed by the keyring before the documents get them.

    A partition for each secret: a head that lists its versions, and a document for each sealed value. A value is bound
    to this store (by an id made with it), its name and its version: one that was put in another's place does not open.
    What a keyring's later key has sealed is sealed by the first one when it is read; ``reseal`` does it for all.
    Each secret keeps its newest 80 versions. A deleted one stays until it is purged.

    Without a ``keyring`` that of the environment is read when the first value is sealed or opened; only then is its
    absence an error.
    """

    collections: ClassVar[tuple[Collection, ...]] = (Collection(_COLLECTION, indexes=(("kind", "name"),)),)

    def __init__(
        self,
        documents: DocumentStore,
        *,
        keyring: Keyring | None = None,
        clock: Clock | None = None,
        owned: bool = False,
    ) -> None:
        super().__init__(documents, owned=owned)
        self._clock = clock or SystemClock()
        self._keyring = keyring
        self._sealer: Sealer | None = None
        self._id = ""

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
        about = SecretVersion(
            name=name,
            version=secrets.token_hex(16),
            created_at=self._clock.now(),
            not_before=not_before,
            expires_at=expires_at,
        )
        sealed = _stored(self._seals().seal(plain.reveal().encode(), await self._store_id(), name, about.version))
        for _ in range(_ATTEMPTS):
            head = await self._documents.get(_COLLECTION, name, _HEAD)
            if head is not None and head.body["kind"] == _DELETED:
                raise rules.deleted(name)
            versions = [about, *(_versions(head) if head is not None else [])]
            operations: list[Operation] = [
                _head(name, _LIVE, versions[:MIN_VERSIONS], head),
                Put(id=about.version, body=sealed, create_only=True),
                *(Delete(id=old.version) for old in versions[MIN_VERSIONS:]),
            ]
            try:
                await self._documents.batch(_COLLECTION, name, operations)
                return about
            except DocumentConflictError:
                continue
        raise _contended(name)

    async def get(self, name: str, version: str | None = None) -> Secret:
        for _ in range(_ATTEMPTS):
            versions = _versions(await self._live(name))
            now = self._clock.now()
            about = rules.current(versions, now) if version is None else rules.named(name, versions, version)
            rules.check_usable(about, now)
            found = await self._documents.get(_COLLECTION, name, about.version)
            if found is not None:
                return Secret(about=about, value=SecretValue(await self._open(name, found)))
            if about in _versions(await self._live(name)):
                raise SealError(
                    f"the value of secret {name!r}, version {about.version}, is gone; set it anew", name=name
                )
        raise _contended(name)

    async def versions(self, name: str) -> list[SecretVersion]:
        return _versions(await self._live(name))

    async def list(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None
    ) -> tuple[builtins.list[SecretVersion], str | None]:
        found, cursor = await self._names(_LIVE, prefix, limit, cursor)
        return [_versions(head)[0] for head in found], cursor

    async def update(
        self,
        name: str,
        version: str,
        *,
        enabled: bool | msgspec.UnsetType = msgspec.UNSET,
        not_before: float | msgspec.UnsetType | None = msgspec.UNSET,
        expires_at: float | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> SecretVersion:
        given = {"enabled": enabled, "not_before": not_before, "expires_at": expires_at}
        changes = {field: value for field, value in given.items() if value is not msgspec.UNSET}
        changed: list[SecretVersion] = []

        def change(versions: builtins.list[SecretVersion]) -> tuple[str, builtins.list[SecretVersion]]:
            new = msgspec.structs.replace(rules.named(name, versions, version), **changes)
            rules.check_bounds(name, new.not_before, new.expires_at)
            changed[:] = [new]
            return _LIVE, [new if about.version == version else about for about in versions]

        await self._rewrite(name, _LIVE, change)
        return changed[0]

    async def delete(self, name: str) -> None:
        await self._rewrite(name, _LIVE, lambda versions: (_DELETED, versions))

    async def deleted(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None
    ) -> tuple[builtins.list[str], str | None]:
        found, cursor = await self._names(_DELETED, prefix, limit, cursor)
        return [head.partition for head in found], cursor

    async def recover(self, name: str) -> None:
        await self._rewrite(name, _DELETED, lambda versions: (_LIVE, versions))

    async def purge(self, name: str) -> None:
        for _ in range(_ATTEMPTS):
            head = await self._head_of(name, _DELETED)
            gone = [Delete(id=_HEAD, if_match=head.etag), *(Delete(id=v.version) for v in _versions(head))]
            try:
                await self._documents.batch(_COLLECTION, name, gone)
                return
            except DocumentConflictError:
                continue
        raise _contended(name)

    async def reseal(self) -> Resealed:
        """Seal by the primary key what another has sealed, deleted secrets included; safe to repeat and to interrupt.

        When it has returned, the other keys are needed for nothing that this store held as it began. Raises SealError
        for a value that does not open, naming it: those before it are done.
        """
        resealed = current = 0
        async for head in self._heads():
            for about in _versions(head):
                found = await self._documents.get(_COLLECTION, head.partition, about.version)
                if found is None:
                    continue
                if not self._seals().stale(_sealed(found)):
                    current += 1
                elif await self._reseal(head.partition, found, await self._plain(head.partition, found)):
                    resealed += 1
        return Resealed(resealed, current)

    async def facts(self) -> dict[str, str]:
        if self._keyring is None:
            try:
                self._keyring = Keyring.from_environment()
            except Exception as error:
                return {"sealing keys": f"none yet, so no secret can be set or read: {error}"}
        ids = list(self._keyring)
        more = f", and opens what {', '.join(ids[1:])} sealed" if ids[1:] else ""
        return {"sealing keys": f"{ids[0]} seals{more} ({self._keyring.source})"}

    # -- documents -------------------------------------------------------------------------------------------------

    async def _head_of(self, name: str, kind: str) -> Document:
        rules.check_name(name)
        head = await self._documents.get(_COLLECTION, name, _HEAD)
        if head is not None and head.body["kind"] == kind:
            return head
        if kind == _DELETED:
            raise SecretNotFoundError(f"there is no deleted secret {name!r}", name=name)
        if head is not None:
            raise SecretNotFoundError(
                f"secret {name!r} is deleted; loom secrets recover {name} brings it back", name=name
            )
        raise rules.missing(name)

    async def _live(self, name: str) -> Document:
        return await self._head_of(name, _LIVE)

    async def _rewrite(
        self,
        name: str,
        kind: str,
        change: Callable[[builtins.list[SecretVersion]], tuple[str, builtins.list[SecretVersion]]],
    ) -> None:
        for _ in range(_ATTEMPTS):
            head = await self._head_of(name, kind)
            new_kind, versions = change(_versions(head))
            try:
                await self._documents.batch(_COLLECTION, name, [_head(name, new_kind, versions, head)])
                return
            except DocumentConflictError:
                continue
        raise _contended(name)

    async def _names(
        self, kind: str, prefix: str, limit: int, cursor: str | None
    ) -> tuple[builtins.list[Document], str | None]:
        rules.check_prefix(prefix)
        rules.check_limit(limit)
        where = [Condition("kind", "==", kind)]
        if prefix:
            where += [Condition("name", ">=", prefix), Condition("name", "<", prefix + _AFTER_ANY_NAME)]
        page = await self._documents.query(_COLLECTION, Query(where=tuple(where), limit=limit, cursor=cursor))
        return page.documents, page.cursor

    async def _heads(self) -> AsyncIterator[Document]:
        for kind in (_LIVE, _DELETED):
            cursor: str | None = None
            while True:
                found, cursor = await self._names(kind, "", _PAGE, cursor)
                for head in found:
                    yield head
                if cursor is None:
                    break

    async def _store_id(self) -> str:
        while not self._id:
            found = await self._documents.get(_COLLECTION, *_STORE)
            if found is None:
                body = {"kind": "store", "id": secrets.token_hex(16)}
                try:
                    found = await self._documents.put(_COLLECTION, *_STORE, body, create_only=True)
                except DocumentConflictError:
                    continue
            self._id = found.body["id"]
        return self._id

    # -- sealing ---------------------------------------------------------------------------------------------------

    def _seals(self) -> Sealer:
        if self._sealer is None:
            if self._keyring is None:
                self._keyring = Keyring.from_environment()
            self._sealer = Sealer(self._keyring)
        return self._sealer

    async def _open(self, name: str, found: Document) -> str:
        plain = await self._plain(name, found)
        if self._seals().stale(_sealed(found)):
            try:
                await self._reseal(name, found, plain)
            except PortError:
                pass  # a store that takes no writes now still gives what it holds
        return plain.decode()

    async def _plain(self, name: str, found: Document) -> bytes:
        return self._seals().open(_sealed(found), await self._store_id(), name, found.id)

    async def _reseal(self, name: str, found: Document, plain: bytes) -> bool:
        body = _stored(self._seals().seal(plain, await self._store_id(), name, found.id))
        try:
            await self._documents.put(_COLLECTION, name, found.id, body, if_match=found.etag)
        except DocumentConflictError:
            return False  # another has done it, or it is purged
        return True


def _head(name: str, kind: str, versions: list[SecretVersion], found: Document | None) -> Put:
    rows = [
        {"version": v.version, "at": v.created_at, "on": v.enabled, "from": v.not_before, "until": v.expires_at}
        for v in versions
    ]
    body = {"kind": kind, "name": name, "versions": rows}
    return Put(id=_HEAD, body=body, if_match=None if found is None else found.etag, create_only=found is None)


def _versions(head: Document) -> list[SecretVersion]:
    return [
        SecretVersion(
            name=head.partition,
            version=row["version"],
            created_at=float(row["at"]),
            enabled=row["on"],
            not_before=None if row["from"] is None else float(row["from"]),
            expires_at=None if row["until"] is None else float(row["until"]),
        )
        for row in head.body["versions"]
    ]


def _stored(sealed: Sealed) -> dict[str, Any]:
    return {
        "kind": "value",
        "key": sealed.key,
        "nonce": base64.b64encode(sealed.nonce).decode(),
        "sealed": base64.b64encode(sealed.data).decode(),
    }


def _sealed(found: Document) -> Sealed:
    body = found.body
    try:
        nonce, data = (base64.b64decode(body[field], validate=True) for field in ("nonce", "sealed"))
        return Sealed(str(body["key"]), nonce, data)
    except (KeyError, TypeError, ValueError) as error:
        raise SealError(
            f"the value of secret {found.partition!r}, version {found.id}, is no sealed value; restore it from a "
            "backup, or set it anew",
            name=found.partition,
        ) from error


def _contended(name: str) -> SecretConflictError:
    return SecretConflictError(f"secret {name!r}: {_ATTEMPTS} rounds in a row met other writers; try again", name=name)
