"""Plugins: what an adapter declares, how plugins are found, and how a URL becomes an adapter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .spec import API_VERSION, PORTS, AdapterSpec, Durability, Feature, PortName, Reach
from .urls import AdapterContext, LoomURL

if TYPE_CHECKING:
    from .derived import DERIVED_PORTS
    from .discovery import FoundPlugin, find_plugins, import_name_owners
    from .hookspecs import GROUP, HookSpecs, hookimpl
    from .known import KNOWN_PACKAGES, KnownPackage, package_for
    from .loader import Claim, PluginLoader
    from .registry import AdapterRegistry, port_class
    from .report import PluginInfo, PluginProblem, PluginReport

__all__ = [
    "API_VERSION",
    "DERIVED_PORTS",
    "GROUP",
    "KNOWN_PACKAGES",
    "PORTS",
    "AdapterContext",
    "AdapterRegistry",
    "AdapterSpec",
    "Claim",
    "Durability",
    "Feature",
    "FoundPlugin",
    "HookSpecs",
    "KnownPackage",
    "LoomURL",
    "PluginInfo",
    "PluginLoader",
    "PluginProblem",
    "PluginReport",
    "PortName",
    "Reach",
    "find_plugins",
    "hookimpl",
    "import_name_owners",
    "package_for",
    "port_class",
]

# Ports, adapters and `import loom` need the declarations only: pluggy and discovery wait until somebody asks for them.
_LATE = {
    "AdapterRegistry": "registry",
    "Claim": "loader",
    "DERIVED_PORTS": "derived",
    "FoundPlugin": "discovery",
    "GROUP": "hookspecs",
    "HookSpecs": "hookspecs",
    "KNOWN_PACKAGES": "known",
    "KnownPackage": "known",
    "PluginInfo": "report",
    "PluginLoader": "loader",
    "PluginProblem": "report",
    "PluginReport": "report",
    "find_plugins": "discovery",
    "hookimpl": "hookspecs",
    "import_name_owners": "discovery",
    "package_for": "known",
    "port_class": "registry",
}


def __getattr__(name: str) -> Any:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{module}", __name__), name)
