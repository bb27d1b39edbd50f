"""What a configuration promises: the sentence of its weakest port, and the matrix of all ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from ..plugins import PORTS, Durability, PortName
from ..plugins.spec import UNBACKED_PORTS
from .config import DURABLE_PORTS, GuardConfig
from .findings import Finding

__all__ = ["SURVIVES", "PortReadiness", "Readiness", "readiness", "weakest_port_sentence"]

SURVIVES: dict[Durability, str] = {
    Durability.NONE: "survives nothing: it is gone when the process ends",
    Durability.PROCESS: "survives a crash of the process, not one of its machine",
    Durability.MACHINE: "survives a crash of the process and of its machine, not the loss of its disk",
    Durability.REPLICATED: "survives the loss of a process, of a machine and of a copy of the data",
}
"""What is said of each durability after "An acknowledged call"."""


class PortReadiness(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the matrix. Plain text, without credentials, ready for ``--json``."""

    port: str
    adapter: str
    source: str
    durability: str
    reach: str
    features: tuple[str, ...]
    maturity: str
    verdict: Literal["ready", "warned", "refused", "not served"]
    codes: tuple[str, ...]


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The whole matrix. ``ready`` is False when anything would be refused in production."""

    ready: bool
    sentence: str
    ordered: bool
    ports: tuple[PortReadiness, ...]
    findings: tuple[Finding, ...]


def readiness(config: GuardConfig, findings: Sequence[Finding]) -> Readiness:
    """The matrix of ``config`` with what the rules found, for ``loom check``."""
    queue = config.ports.get("queue")
    return Readiness(
        ready=not any(finding.severity == "refuse" for finding in findings),
        sentence=weakest_port_sentence(config, findings),
        ordered=queue is not None and queue.spec is not None and "ORDERED" in queue.spec.features,
        ports=tuple(_row(config, port, findings) for port in PORTS if _is_used(config, port)),
        findings=tuple(findings),
    )


def weakest_port_sentence(config: GuardConfig, findings: Sequence[Finding] = ()) -> str:
    """``An acknowledged call survives …: the journal (sqlite:///loom.db) decides.``

    A configuration promises what its weakest durable port promises. ``findings`` lower what an adapter declares where
    a rule saw that it does not hold here.
    """
    rated = []
    for port, spec in config.served():
        if port.port in DURABLE_PORTS:
            lowered = [f.lowers for f in findings if f.port == port.port and f.lowers is not None]
            rated.append((min([spec.durability, *lowered]), port))
    if not rated:
        return "Nothing can be said of what an acknowledged call survives: no port's adapter declares it."
    least = min(durability for durability, _ in rated)
    deciding = [port for durability, port in rated if durability == least]
    names = f"the {deciding[0].port} ({deciding[0].shown}) decides"
    if len(deciding) == len(rated) > 1:
        names = "every port alike"
    elif len(deciding) > 1:
        names = f"the {deciding[0].port} ({deciding[0].shown}) decides, and {len(deciding) - 1} more like it"
    return f"An acknowledged call {SURVIVES[least]}: {names}."


def _is_used(config: GuardConfig, port: PortName) -> bool:
    """Whether there is anything to say of the port: what no store serves is used only where somebody chose it."""
    found = config.ports.get(port)
    return found is not None and (port not in UNBACKED_PORTS or found.spec is not None or found.instance is not None)


def _row(config: GuardConfig, port_name: str, findings: Sequence[Finding]) -> PortReadiness:
    port = next(found for found in config.ports.values() if found.port == port_name)
    own = [finding for finding in findings if finding.port == port_name]
    spec = port.spec
    if any(finding.severity == "refuse" for finding in own):
        verdict: Literal["ready", "warned", "refused", "not served"] = "refused"
    elif spec is None:
        verdict = "not served"
    else:
        verdict = "warned" if own else "ready"
    return PortReadiness(
        port=port_name,
        adapter=port.shown,
        source=port.source,
        durability=spec.durability.name if spec else "?",
        reach=spec.reach.name if spec else "?",
        features=tuple(sorted(spec.features)) if spec else (),
        maturity=spec.maturity if spec else "?",
        verdict=verdict,
        codes=tuple(sorted({finding.code for finding in own})),
    )
