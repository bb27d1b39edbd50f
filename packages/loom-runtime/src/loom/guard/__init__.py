"""The production guard: what may not reach production, and what a configuration promises."""

from .config import DURABLE_PORTS, REQUIRED_PORTS, GuardConfig, PortConfig, guard_config
from .findings import Finding, GuardWarning, Severity
from .readiness import PortReadiness, Readiness, readiness, weakest_port_sentence
from .report import builtin_rules, check_production_config, collect_rules, enforce, validate_production_config
from .rules import ConfigRule, GuardRule

__all__ = [
    "DURABLE_PORTS",
    "REQUIRED_PORTS",
    "ConfigRule",
    "Finding",
    "GuardConfig",
    "GuardRule",
    "GuardWarning",
    "PortConfig",
    "PortReadiness",
    "Readiness",
    "Severity",
    "builtin_rules",
    "check_production_config",
    "collect_rules",
    "enforce",
    "guard_config",
    "readiness",
    "validate_production_config",
    "weakest_port_sentence",
]
