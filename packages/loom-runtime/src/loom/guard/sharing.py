"""Rules about who can share the data, and about what belongs in tests."""

from __future__ import annotations

from collections.abc import Iterator

from ..plugins import Durability, Feature, Reach
from .config import GuardConfig
from .findings import Finding
from .remedies import alternatives
from .rules import ConfigRule

__all__ = ["CrashPointRule", "ReachRule", "TestOnlyRule"]


class ReachRule(ConfigRule):
    """Several hosts, and a port that only one of them can see."""

    code = "reach"
    severity = "refuse"
    summary = "more than one host shares the configuration, and an adapter cannot be reached over the network"
    remedy = "give the port an adapter that the network can reach, or run one host"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        if config.hosts <= 1:
            return
        for port, spec in config.served():
            if spec.reach < Reach.NETWORK:
                whose = "this process" if spec.reach == Reach.PROCESS else "this host"
                yield Finding(
                    code=self.code,
                    severity="refuse",
                    port=port.port,
                    reason=f"{config.hosts} hosts share the configuration, and {port.shown} ({port.source}) "
                    f"is seen by {whose} only: each would have a truth of its own",
                    remedy=alternatives(config, port.port, durability=Durability.MACHINE, reach=Reach.NETWORK),
                )


class TestOnlyRule(ConfigRule):
    """A double that belongs in tests. No setting lets it into production."""

    __test__ = False  # pytest collects classes by this name

    code = "test-only"
    severity = "refuse"
    summary = "an adapter is declared TEST_ONLY; refused whatever any setting says"
    remedy = "use the real one"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        for port, spec in config.served():
            if Feature.TEST_ONLY in spec.features:
                yield Finding(
                    code=self.code,
                    severity="refuse",
                    absolute=True,
                    port=port.port,
                    reason=f"{spec.target} ({port.source}) is a double for tests and protects nothing",
                    remedy=alternatives(config, port.port, durability=Durability.PROCESS, reach=spec.reach),
                )


class CrashPointRule(ConfigRule):
    """The variable by which tests kill a host at a named point is set."""

    code = "crash-point"
    severity = "refuse"
    summary = "LOOM_CRASH_AT, by which tests kill a host, is set; refused whatever any setting says"
    remedy = "unset it"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        if config.environ.get("LOOM_CRASH_AT"):
            yield Finding(
                code=self.code,
                severity="refuse",
                absolute=True,
                reason="LOOM_CRASH_AT is set: this process would kill itself in the middle of a turn",
                remedy="unset LOOM_CRASH_AT; it is for tests",
            )
