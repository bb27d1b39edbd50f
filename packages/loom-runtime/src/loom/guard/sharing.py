"""Rules about who can share the data, and about what belongs in tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from ..plugins import Durability, Feature, Reach
from ..ports import CoordinationAdapter, clocks_apart
from .config import GuardConfig
from .findings import Finding
from .remedies import alternatives
from .rules import ConfigRule, GuardRule

__all__ = ["ClockSkewRule", "CrashPointRule", "ReachRule", "TestOnlyRule"]


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
                yield self.finding(
                    port.port,
                    "refuse",
                    f"{config.hosts} hosts share the configuration, and {port.shown} ({port.source}) "
                    f"is seen by {whose} only: each would have a truth of its own",
                    remedy=alternatives(config, port.port, durability=Durability.MACHINE, reach=Reach.NETWORK),
                )


class ClockSkewRule(GuardRule):
    """The clock of another host is ahead of this one's."""

    code = "clock-skew"
    severity = "warn"
    summary = "the clocks of hosts that share the data differ by more than a second"
    remedy = "let a time service (NTP, chrony) keep the clocks of all hosts"

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    async def check(self, config: GuardConfig) -> Iterable[Finding]:
        coordination = config.adapters.get("coordination")
        if not isinstance(coordination, CoordinationAdapter):
            return []
        ahead = clocks_apart(await coordination.last_seen(), self._now())
        return [
            self.finding(
                "coordination",
                "warn",
                f"the clock of {name} is at least {seconds:.1f} s ahead of this host's: timers fire early or "
                "late, and a host may be taken for dead",
            )
            for name, seconds in ahead.items()
        ]


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
                yield self.finding(
                    port.port,
                    "refuse",
                    f"{spec.target} ({port.source}) is a double for tests and protects nothing",
                    remedy=alternatives(config, port.port, durability=Durability.PROCESS, reach=spec.reach),
                    absolute=True,
                )


class CrashPointRule(ConfigRule):
    """The variable by which tests kill a host at a named point is set."""

    code = "crash-point"
    severity = "refuse"
    summary = "LOOM_CRASH_AT, by which tests kill a host, is set; refused whatever any setting says"
    remedy = "unset it"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        if config.environ.get("LOOM_CRASH_AT"):
            yield self.finding(
                None,
                "refuse",
                "LOOM_CRASH_AT is set: this process would kill itself in the middle of a turn",
                remedy="unset LOOM_CRASH_AT; it is for tests",
                absolute=True,
            )
