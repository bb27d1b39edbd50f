"""The guard's rules about vaults. Who has no Azure needs no driver to run them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loom.guard import Finding, GuardConfig, GuardRule, PortConfig

from .vault_options import VaultOptions, recoverable

__all__ = ["vault_rules"]


def _vault(config: GuardConfig) -> tuple[PortConfig | None, Any]:
    """The port where its secrets lie in a vault, and the store where it was opened."""
    port = config.ports.get("secrets")
    adapter: Any = config.adapters.get("secrets")
    opened = isinstance(getattr(adapter, "options", None), VaultOptions)
    if port is not None and (opened or (port.url is not None and port.url.scheme == "keyvault")):
        return port, adapter if opened else None
    return None, None


class SoftDeleteRule(GuardRule):
    """Whether a deleted secret can be brought back. Looks only at what was opened."""

    code = "keyvault-soft-delete"
    severity = "refuse"
    summary = "the vault deletes secrets for good at once: soft delete is off"
    remedy = "az keyvault update --name VAULT --enable-soft-delete true, and --enable-purge-protection true"

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        port, store = _vault(config)
        level = None if store is None else await store.recovery_level()
        if port is None or level is None or recoverable(level):
            return []
        return [self.finding("secrets", "refuse", f"{port.shown}: its recovery level is {level!r}")]


class ClientSecretRule(GuardRule):
    """Whether the vault's own key lies in the environment."""

    code = "keyvault-client-secret"
    severity = "warn"
    summary = "one signs in to the vault by AZURE_CLIENT_SECRET, a secret in an environment variable"
    remedy = "unset it, and give the machine a managed identity or a federated one, which need no secret"

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        port, _ = _vault(config)
        if port is None or not config.environ.get("AZURE_CLIENT_SECRET"):
            return []
        reason = f"{port.shown}: AZURE_CLIENT_SECRET opens the vault to whoever sees this process's environment"
        return [self.finding("secrets", "warn", reason)]


def vault_rules() -> list[GuardRule]:
    """All rules, in the order in which they are told."""
    return [SoftDeleteRule(), ClientSecretRule()]
