"""The secrets store that the settings name, and the client that an app has of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from ..clock import Clock
from ..errors import SecretReferenceError
from ..plugins import AdapterContext, PortName
from ..ports import Port, SecretsStore
from .client import SecretsClient
from .references import has_references

if TYPE_CHECKING:
    from ..plugins.registry import AdapterRegistry
    from ..settings import Settings

__all__ = ["client_of", "names_secrets", "store_of"]


def names_secrets(settings: Settings, instances: Mapping[PortName, Port]) -> bool:
    """Whether somebody has said where secrets are, or asks for one in a URL: who has not pays for nothing."""
    named = "secrets" in instances or "secrets" in settings.url_for("secrets")[1].name.lower()
    return named or any(has_references(url.raw) for url, _ in settings.port_urls.values())


def store_of(
    settings: Settings,
    registry: AdapterRegistry,
    *,
    instances: Mapping[PortName, Port] | None = None,
    clock: Clock | None = None,
    create: bool = True,
) -> SecretsStore:
    """The store, not started. Raises SecretReferenceError when its own URL needs a secret, and what opening raises."""
    instance = (instances or {}).get("secrets")
    if instance is not None:
        return cast("SecretsStore", instance)
    url, source = settings.url_for("secrets")
    if has_references(url.raw):
        raise SecretReferenceError(
            f"{source}: the secrets store itself cannot be opened by a ${{secret:…}} that lies in it; set "
            "LOOM_SECRETS_URL to a store that needs none, for example keyvault://VAULT",
            where=str(source),
            path=[],
        )
    return registry.open("secrets", url, AdapterContext(clock, create=create))


def client_of(
    settings: Callable[[], Settings],
    registry: Callable[[], AdapterRegistry],
    *,
    instances: Mapping[PortName, Port] | None = None,
    clock: Clock | None = None,
) -> SecretsClient:
    """A client of that store; nothing is opened, and no setting read, before it is asked for a secret."""
    return SecretsClient(lambda: store_of(settings(), registry(), instances=instances, clock=clock), clock=clock)
