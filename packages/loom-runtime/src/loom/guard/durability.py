"""Rules about what a crash takes: ephemeral storage, mixtures, undeclared adapters, ports nobody serves."""

from __future__ import annotations

from collections.abc import Iterator

from ..plugins import Durability, Reach
from .config import DURABLE_PORTS, REQUIRED_PORTS, GuardConfig
from .findings import Finding
from .remedies import alternatives
from .rules import ConfigRule

__all__ = ["EphemeralRule", "ImmatureRule", "MixedRule", "ProcessOnlyRule", "UndeclaredRule", "UnservedRule"]


class EphemeralRule(ConfigRule):
    """A port that must not forget is served from memory."""

    code = "ephemeral"
    severity = "refuse"
    summary = "a durable port is served by an adapter that forgets everything with its process"
    remedy = "give the port a durable adapter; the message lists those installed and those to install"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        reach = Reach.NETWORK if config.hosts > 1 else Reach.HOST
        for port, spec in config.served():
            if port.port in DURABLE_PORTS and spec.durability == Durability.NONE:
                yield self.finding(
                    port.port,
                    "refuse",
                    f"{port.shown} ({port.source}) forgets everything when its process ends",
                    remedy=alternatives(config, port.port, durability=Durability.MACHINE, reach=reach),
                )


class ProcessOnlyRule(ConfigRule):
    """A port keeps data over a crash of the process, and loses it with the machine."""

    code = "process-durability"
    severity = "warn"
    summary = "a durable port survives a crash of the process, not of its machine"
    remedy = "use an adapter that syncs to disk before it acknowledges"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        for port, spec in config.served():
            if port.port in DURABLE_PORTS and spec.durability == Durability.PROCESS:
                yield self.finding(
                    port.port,
                    "warn",
                    f"{port.shown} ({port.source}) loses acknowledged writes when its machine crashes",
                    remedy=alternatives(config, port.port, durability=Durability.MACHINE, reach=spec.reach),
                )


class MixedRule(ConfigRule):
    """Some durable ports forget and others do not, so that a restart leaves halves that do not fit."""

    code = "mixed-durability"
    severity = "warn"
    summary = "some durable ports forget and others do not; told in every environment"
    remedy = "make all durable, or none while you try things out"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        durable = [(port, spec) for port, spec in config.served() if port.port in DURABLE_PORTS]
        forgets = [port.port for port, spec in durable if spec.durability == Durability.NONE]
        keeps = [port.port for port, spec in durable if spec.durability > Durability.NONE]
        if forgets and keeps:
            yield self.finding(
                None,
                "warn",
                f"{', '.join(forgets)} forget with the process while {', '.join(keeps)} remember; "
                "after a restart the one half refers to what the other has lost",
                everywhere=True,
            )


class UndeclaredRule(ConfigRule):
    """An instance was handed in of which nobody has said what it keeps."""

    code = "undeclared"
    severity = "refuse"
    summary = "an adapter instance handed to the app declares neither durability nor reach"
    remedy = "give its class an attribute adapter_spec = AdapterSpec(…) that says what it promises"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        for port in config.ports.values():
            if port.instance is not None and port.spec is None:
                yield self.finding(
                    port.port,
                    "refuse" if port.port in DURABLE_PORTS else "warn",
                    f"{port.problem}; nobody can tell what a crash would take",
                )


class UnservedRule(ConfigRule):
    """No adapter serves a port under its URL."""

    code = "unserved"
    severity = "refuse"
    summary = "no adapter serves a port that every host needs (journal, queue, documents, coordination)"
    remedy = "install the package of the scheme, or set the port's own URL"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        for port in config.ports.values():
            if port.instance is None and port.spec is None and port.port in REQUIRED_PORTS:
                yield self.finding(
                    port.port,
                    "refuse",
                    f"{port.shown} ({port.source}): {port.problem}",
                    remedy=f"install what serves the scheme, or set LOOM_{port.port.upper()}_URL",
                    absolute=True,
                )


class ImmatureRule(ConfigRule):
    """An adapter says of itself that it is experimental."""

    code = "experimental"
    severity = "warn"
    summary = "an adapter declares itself experimental"
    remedy = "prefer an adapter declared beta or stable"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        for port, spec in config.served():
            if spec.maturity == "experimental":
                yield self.finding(port.port, "warn", f"{spec.target} of {spec.distribution} is declared experimental")
