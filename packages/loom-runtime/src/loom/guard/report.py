"""From a configuration to findings, and from findings to a refusal, a warning, or a sentence."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import msgspec

from ..errors import EphemeralAdapterWarning, ProductionGuardError
from ..plugins import PORTS, PluginLoader
from ..settings import Settings
from .config import GuardConfig
from .durability import EphemeralRule, ImmatureRule, MixedRule, ProcessOnlyRule, UndeclaredRule, UnservedRule
from .files import FileSystemRule, SynchronousRule
from .findings import Finding, GuardWarning
from .rules import ConfigRule, GuardRule
from .secrets import EnvironmentSecretsRule, SealingKeysRule
from .sharing import ClockSkewRule, CrashPointRule, ReachRule, TestOnlyRule
from .transport import ClearTextRule

__all__ = ["builtin_rules", "check_production_config", "collect_rules", "enforce", "validate_production_config"]


def builtin_rules() -> list[GuardRule]:
    """The rules that come with the runtime, in the order in which they are documented."""
    return [
        EphemeralRule(), TestOnlyRule(), CrashPointRule(), ReachRule(), UndeclaredRule(), UnservedRule(),
        FileSystemRule(), SynchronousRule(), ProcessOnlyRule(), MixedRule(), ClearTextRule(), EnvironmentSecretsRule(),
        SealingKeysRule(), ClockSkewRule(), ImmatureRule(),
    ]  # fmt: skip


def collect_rules(plugins: PluginLoader) -> list[GuardRule]:
    """The built-in rules and those of every installed plugin; what a plugin hands in that is no rule is left out."""
    plugins.load_all()
    rules = builtin_rules()
    for result in plugins.call("loom_guard_rules"):
        rules += [rule for rule in result if isinstance(rule, GuardRule)]
    return rules


def validate_production_config(config: GuardConfig, rules: Iterable[GuardRule] | None = None) -> list[Finding]:
    """Everything that speaks against running ``config`` in production, refusals first, found without any backend.

    The environment that ``config`` names does not matter: the question is whether it would do in production.
    """
    findings: list[Finding] = []
    for rule in builtin_rules() if rules is None else rules:
        if isinstance(rule, ConfigRule):
            try:
                findings += rule.inspect(config)
            except Exception as error:
                findings.append(_failed(rule, error))
    return _arranged(config, findings)


async def check_production_config(config: GuardConfig, rules: Iterable[GuardRule] | None = None) -> list[Finding]:
    """As ``validate_production_config``, with the rules that ask the opened adapters of ``config`` as well."""
    findings: list[Finding] = []
    for rule in builtin_rules() if rules is None else rules:
        try:
            findings += await rule.check(config)
        except Exception as error:
            findings.append(_failed(rule, error))
    return _arranged(config, findings)


def enforce(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """Act on the findings; returns those that were told as warnings.

    In production refusals raise ProductionGuardError with all of them at once; with ``LOOM_GUARD=warn`` they become
    warnings of the same text, except the absolute ones. In other environments only findings meant for every
    environment are told, as warnings.
    """
    if settings.environment != "production":
        told = [finding for finding in findings if finding.everywhere]
    else:
        stopping = [
            finding
            for finding in findings
            if finding.severity == "refuse" and (finding.absolute or settings.guard != "warn")
        ]
        if stopping:
            raise ProductionGuardError(_refusal(stopping, settings), findings=stopping)
        told = list(findings)
    for finding in told:
        forgets = finding.code in (EphemeralRule.code, MixedRule.code)
        warnings.warn(str(finding), EphemeralAdapterWarning if forgets else GuardWarning, stacklevel=2)
    return told


def _refusal(findings: Sequence[Finding], settings: Settings) -> str:
    count = f"{len(findings)} findings speak" if len(findings) > 1 else "1 finding speaks"
    lines = [f"{count} against starting in production ({settings.environment_reason}):"]
    lines += [f"  {finding}" for finding in findings]
    if any(not finding.absolute for finding in findings):
        lines.append("LOOM_GUARD=warn starts all the same and warns; what may never start stays refused.")
    if settings.source_of("environment").kind == "default":
        lines.append("LOOM_ENV=development says that this is not production.")
    return "\n".join(lines)


def _failed(rule: GuardRule, error: Exception) -> Finding:
    code = getattr(rule, "code", type(rule).__qualname__)
    return Finding(
        code="rule-failed",
        severity="warn",
        # The message may come from a driver and repeat a URL, so only its type is told.
        reason=f"the rule {code!r} of {type(rule).__module__} raised {type(error).__name__}; its subject is unchecked",
        remedy="report it to the plugin's author, and check by hand what the rule is about",
    )


def _arranged(config: GuardConfig, findings: Iterable[Finding]) -> list[Finding]:
    several = config.hosts > 1
    arranged = []
    for finding in findings:
        # What others also rely on is not this host's to risk.
        core = finding.severity == "refuse" and finding.port in ("journal", "queue")
        arranged.append(msgspec.structs.replace(finding, absolute=True) if several and core else finding)
    order: dict[str | None, int] = {port: position for position, port in enumerate(PORTS)}
    return sorted(arranged, key=lambda found: (found.severity != "refuse", order.get(found.port, -1)))
