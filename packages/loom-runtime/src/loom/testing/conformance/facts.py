"""From the outcomes of tests to a verdict on each fact that an adapter declares."""

from __future__ import annotations

from collections.abc import Sequence

from ...plugins.spec import AdapterSpec, Durability, Feature, Reach
from ..suites.base import Needs
from .report import Fact, Status, TestOutcome

__all__ = ["judge"]

Tested = tuple[Needs, TestOutcome]

# It is a warning to users, not something an adapter can do.
_NO_PROMISE = frozenset({Feature.TEST_ONLY})


def judge(spec: AdapterSpec, tested: Sequence[Tested]) -> tuple[Fact, ...]:
    """The contract of the port, then durability, reach and features: those declared and those that have tests."""
    base = [outcome for needs, outcome in tested if needs == Needs()]
    durable = [outcome for needs, outcome in tested if needs.durability > Durability.NONE]
    shared = [outcome for needs, outcome in tested if needs.reach > Reach.PROCESS]
    facts = [
        _fact("contract", True, base),
        _fact(f"durability {spec.durability.name}", spec.durability > Durability.NONE, durable),
        _fact(f"reach {spec.reach.name}", spec.reach > Reach.PROCESS, shared),
    ]
    for feature in Feature:
        outcomes = [outcome for needs, outcome in tested if feature in needs.features]
        declared = feature in spec.features
        if (declared or outcomes) and feature not in _NO_PROMISE:
            facts.append(_fact(feature.value, declared, outcomes))
    return tuple(facts)


def _fact(name: str, declared: bool, outcomes: Sequence[TestOutcome]) -> Fact:
    passed, failed, skipped = (sum(one.outcome == kind for one in outcomes) for kind in ("passed", "failed", "skipped"))
    if not declared:
        status = Status.UNDECLARED
    elif failed:
        status = Status.BROKEN
    else:
        status = Status.PROVEN if passed else Status.UNTESTED
    return Fact(name=name, status=status, passed=passed, failed=failed, skipped=skipped)
