"""GuardRule: the base of every rule, and the rules that come with the runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from ..plugins import Durability, PortName
from .config import GuardConfig
from .findings import Finding, Severity

__all__ = ["ConfigRule", "GuardRule"]


class GuardRule(ABC):
    """Something that must hold in production.

    Plugins hand their rules in by the hook ``loom_guard_rules``. ``code`` is stable and is that of every finding of
    the rule; ``severity``, ``summary`` and ``remedy`` describe it in the documentation. A rule changes nothing, and
    puts no credentials in its findings.
    """

    code: ClassVar[str]
    severity: ClassVar[str]
    summary: ClassVar[str]
    remedy: ClassVar[str]

    @abstractmethod
    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        """What speaks against ``config``; nothing when all is well.

        May ask the backends through ``config.adapters``, which is empty when nothing was opened: then leave out what
        cannot be known.
        """

    def finding(
        self,
        port: PortName | None,
        severity: Severity,
        reason: str,
        *,
        remedy: str = "",
        absolute: bool = False,
        everywhere: bool = False,
        lowers: Durability | None = None,
    ) -> Finding:
        """A finding of this rule about ``port``, or about the whole configuration if None.

        ``remedy`` is the rule's own where none is given.
        """
        return Finding(
            code=self.code,
            severity=severity,
            reason=reason,
            remedy=remedy or self.remedy,
            port=port,
            absolute=absolute,
            everywhere=everywhere,
            lowers=lowers,
        )


class ConfigRule(GuardRule):
    """A rule that needs no backend: it looks at declarations, URLs and this machine, and is quick."""

    @abstractmethod
    def inspect(self, config: GuardConfig) -> Iterable[Finding]:
        """What speaks against ``config``, at once."""

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        return self.inspect(config)
