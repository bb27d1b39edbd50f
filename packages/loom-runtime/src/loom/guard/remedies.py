"""What to use instead: the adapters that would do, installed or to install."""

from __future__ import annotations

from ..plugins import KNOWN_PACKAGES, Durability, Feature, PortName, Reach
from .config import GuardConfig

__all__ = ["alternatives"]


def alternatives(config: GuardConfig, port: PortName, *, durability: Durability, reach: Reach) -> str:
    """The adapters for ``port`` with at least these facts, as the sentence of a remedy."""
    installed = sorted(
        {
            spec.scheme
            for spec in config.installed
            if spec.port == port
            and spec.durability >= durability
            and spec.reach >= reach
            and Feature.TEST_ONLY not in spec.features
        }
    )
    have = {spec.distribution for spec in config.installed}
    missing = [
        f"{package.scheme}:// (pip install {package.distribution})"
        for package in KNOWN_PACKAGES
        if port in package.ports
        and package.durability >= durability
        and package.reach >= reach
        and package.distribution not in have
    ]
    parts = []
    if installed:
        parts.append("installed: " + ", ".join(f"{scheme}://" for scheme in installed))
    if missing:
        parts.append("to install: " + ", ".join(missing))
    if not parts:
        return f"no known adapter for {port} would do; write one, or run on one host"
    return f"set LOOM_{port.upper()}_URL to one that would do ({'; '.join(parts)})"
