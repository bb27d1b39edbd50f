"""Plugins: what an adapter declares, how plugins are found, and how a URL becomes an adapter."""

from .derived import DERIVED_PORTS
from .discovery import FoundPlugin, find_plugins, import_name_owners
from .hookspecs import GROUP, HookSpecs, hookimpl
from .known import KNOWN_PACKAGES, KnownPackage, package_for
from .loader import Claim, PluginLoader
from .registry import AdapterRegistry, port_class
from .report import PluginInfo, PluginProblem, PluginReport
from .spec import API_VERSION, PORTS, AdapterSpec, Durability, Feature, PortName, Reach
from .urls import AdapterContext, LoomURL

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
