"""Finding: one thing that speaks against a configuration."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..plugins.spec import Durability, PortName

__all__ = ["Finding", "GuardWarning", "Severity"]

Severity = Literal["refuse", "warn"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule found. Holds no credentials.

    ``code`` is stable and names the rule. ``port`` is the port concerned, or None for the whole configuration.
    ``absolute`` refusals are not softened by ``LOOM_GUARD=warn``. ``everywhere`` findings are told outside production
    too. ``lowers`` is the durability that the port has in fact, where the rule found that its declaration is too good.
    """

    code: str
    severity: Severity
    reason: str
    remedy: str
    port: PortName | None = None
    absolute: bool = False
    everywhere: bool = False
    lowers: Durability | None = None

    def __str__(self) -> str:
        return f"{self.port or 'configuration'} [{self.code}]: {self.reason}\n    remedy: {self.remedy}"


class GuardWarning(UserWarning):
    """A finding of the production guard that does not stop the start."""
