"""A client of secrets that live in this process, for tests and first steps."""

from __future__ import annotations

from collections.abc import Mapping

from ..adapters.memory.secrets import InMemorySecretsStore
from ..clock import Clock
from ..ports.secrets import SecretsStore, SecretValue
from .client import SecretsClient

__all__ = ["InMemorySecretsClient"]


class InMemorySecretsClient(SecretsClient):
    """A SecretsClient over an InMemorySecretsStore of its own, ``store``, which holds ``secrets`` when it is opened."""

    def __init__(
        self, secrets: Mapping[str, SecretValue | str] | None = None, *, ttl: float = 300.0, clock: Clock | None = None
    ) -> None:
        self.store = InMemorySecretsStore(clock=clock)
        self._given = {name: SecretValue.of(value) for name, value in (secrets or {}).items()}
        super().__init__(self.store, ttl=ttl, clock=clock)

    async def opened(self) -> SecretsStore:
        store = await super().opened()
        given, self._given = self._given, {}
        for name, value in given.items():
            await store.set(name, value)
        return store
