"""SecretsClient: secrets as an app reads them, cached, refreshed before they are old, with an event at a rotation."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from ..adapters import secret_rules as rules
from ..clock import Clock, SystemClock
from ..errors import LoomError, SecretError
from ..ports.secrets import Rotation, Secret, SecretsStore, SecretValue
from .redaction import Redactor

__all__ = ["SecretsClient"]

_log = logging.getLogger("loom.secrets")

T = TypeVar("T")

_AHEAD = 0.75
_Key = tuple[str, str | None]


class _Cached(msgspec.Struct):
    secret: Secret
    read_at: float
    used: bool = True


class SecretsClient:
    """Reads secrets from a store, which it opens when it is first asked for one.

    A value is given from memory for ``ttl`` seconds after it was read, so a version that was disabled or rotated is
    noticed within that time; its own bounds are kept to the moment. What was used is read again after three quarters
    of that time, so that nobody waits for it; where that fails, the value is kept until its time is over, and then
    the error is raised. Every value that was read is known to ``redactor``.

    Used as ``async with client: …``, or closed by the app that it belongs to. It may be used again after ``close``.
    """

    def __init__(
        self,
        store: SecretsStore | Callable[[], SecretsStore],
        *,
        ttl: float = 300.0,
        clock: Clock | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        """``store`` is started and closed by the client; a function makes a new one each time it is opened."""
        if not ttl > 0:
            raise ValueError(f"ttl={ttl}: values are kept for a positive number of seconds")
        self.redactor = redactor or Redactor()
        self._make: Callable[[], SecretsStore] = (lambda: store) if isinstance(store, SecretsStore) else store
        self._ttl = ttl
        self._clock = clock or SystemClock()
        self._store: SecretsStore | None = None
        self._opening = asyncio.Lock()
        self._cached: dict[_Key, _Cached] = {}
        self._reading: dict[_Key, asyncio.Task[Secret]] = {}
        self._keepers: dict[_Key, asyncio.Task[None]] = {}
        self._handlers: dict[str, list[Callable[[Rotation], Any]]] = {}

    async def get(self, name: str, version: str | None = None) -> SecretValue:
        """The value of the current version, or of the one named. Raises what ``SecretsStore.get`` raises."""
        key = (name, version)
        cached = self._cached.get(key)
        if cached is not None and not self._old(cached) and cached.secret.about.usable(self._clock.now()):
            cached.used = True
            return cached.secret.value
        return (await self._read_once(key)).value

    async def accepted(self, name: str) -> list[SecretValue]:
        """The values of all versions that may be used now, the newest first: during a rotation with overlap, those
        of old and new. For whoever checks what others have signed or sent. The list is asked of the store each time.

        Raises SecretNotFoundError.
        """
        store, now = await self.opened(), self._clock.now()
        found = []
        for about in await store.versions(name):
            if about.usable(now):
                try:
                    found.append(await self.get(name, about.version))
                except SecretError:
                    continue  # changed since it was listed
        return found

    def on_rotation(self, name: str, handler: Callable[[Rotation], Any]) -> Callable[[], None]:
        """Call ``handler`` when the current version of ``name`` is found to be another; the function given ends that.

        Found when the secret is read again, within ``ttl`` of the change. Watching begins with the first ``get``, and
        from then on the secret is read again although nobody asks. The handler is a plain function, and must return
        quickly; what it raises is logged.
        """
        handlers = self._handlers.setdefault(name, [])
        handlers.append(handler)

        def stop() -> None:
            if handler in handlers:
                handlers.remove(handler)

        return stop

    def forget(self) -> None:
        """Drop every value from memory: the next ``get`` reads it."""
        self._cached.clear()

    async def close(self) -> None:
        """Stop reading, forget every value, and close the store."""
        tasks = [*self._keepers.values(), *self._reading.values()]
        self._keepers, self._reading = {}, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._cached.clear()
        self._opening = asyncio.Lock()  # another loop may open it next
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    async def __aenter__(self) -> Self:
        await self.opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _old(self, cached: _Cached) -> bool:
        return self._clock.monotonic() - cached.read_at >= self._ttl

    async def opened(self) -> SecretsStore:
        """The store itself, open; the client closes it. What is read from it is neither cached nor redacted."""
        async with self._opening:
            if self._store is None:
                self._store = await _apart(self._start(), "loom secrets store")
            return self._store

    async def _start(self) -> SecretsStore:
        store = self._make()
        await store.start()
        return store

    async def _read_once(self, key: _Key) -> Secret:
        """Read it; those who ask meanwhile share the answer."""
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = _apart(self._read(key), "loom secret")
            task.add_done_callback(lambda done: self._was_read(key, done))
        # Shielded: one caller that gives up takes nothing from the others.
        return await asyncio.shield(task)

    def _was_read(self, key: _Key, task: asyncio.Task[Secret]) -> None:
        if self._reading.get(key) is task:
            del self._reading[key]
        if not task.cancelled():
            task.exception()  # all who asked may have given up: then nobody has looked at it

    async def _read(self, key: _Key) -> Secret:
        name, version = key
        secret = await (await self.opened()).get(name, version)
        rules.check_usable(secret.about, self._clock.now())
        self.redactor.add(secret.value)
        before = self._cached.get(key)
        self._cached[key] = _Cached(secret, self._clock.monotonic())
        if key not in self._keepers:
            self._keepers[key] = _apart(self._keep(key), "loom secret refresh")
        if version is None and before is not None and before.secret.about.version != secret.about.version:
            self._tell(Rotation(name=name, old=before.secret.about, new=secret.about))
        return secret

    async def _keep(self, key: _Key) -> None:
        """Read a value again before it is old, as long as somebody uses it or wants to be told of its rotation."""
        name, version = key
        try:
            while (cached := self._cached.get(key)) is not None:
                due = cached.read_at + self._ttl * _AHEAD - self._clock.monotonic()
                if due > 0:
                    await self._clock.sleep(due)
                    continue
                watched = version is None and bool(self._handlers.get(name))
                if not cached.used and not watched:
                    return
                try:
                    await self._read_once(key)
                    if (fresh := self._cached.get(key)) is not None:
                        fresh.used = False
                except SecretError:
                    self._cached.pop(key, None)  # whoever asks next is told why
                    return
                except LoomError as error:
                    _log.warning("secret %s could not be read again, and is kept until it is old: %s", name, error)
                    await self._clock.sleep(self._ttl * (1 - _AHEAD))
                    if self._old(cached) and not watched:
                        return
        finally:
            if self._keepers.get(key) is asyncio.current_task():
                del self._keepers[key]

    def _tell(self, rotation: Rotation) -> None:
        for handler in list(self._handlers.get(rotation.name, ())):
            try:
                handler(rotation)
            except Exception:
                _log.exception("a handler of the rotation of secret %s failed", rotation.name)


def _apart(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task in a clean context: it is of the client, and not of the turn that happened to ask first."""
    return asyncio.create_task(work, name=name, context=contextvars.Context())
