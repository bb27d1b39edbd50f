"""PluginLoader: loads plugins, each for itself, and keeps what they registered and what is wrong with them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pluggy

from .discovery import FoundPlugin, find_plugins
from .hookspecs import HookSpecs
from .report import PluginInfo, PluginProblem, PluginReport, ProblemCode
from .spec import API_VERSION, PORTS, AdapterSpec, Durability, Feature, PortName, Reach

__all__ = ["Claim", "PluginLoader"]

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


class Claim(msgspec.Struct, frozen=True):
    """That a plugin serves the spec's port under its scheme. ``refused`` is empty, or why it may not."""

    spec: AdapterSpec
    plugin: str
    distribution: str
    refused: str = ""


class PluginLoader:
    """The built-in plugin at once, the installed ones when ``load_all`` is called.

    Nothing that a plugin does while it is imported or called stops another: it becomes a problem in ``report()``.
    ``slow_seconds`` is how long an import may take before it is reported; ``find`` and ``timer`` are there for tests.
    """

    def __init__(
        self,
        *,
        find: Callable[[], Iterable[FoundPlugin]] = find_plugins,
        slow_seconds: float = 0.2,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._find = find
        self._slow_seconds = slow_seconds
        self._timer = timer
        self._manager = pluggy.PluginManager("loom")
        self._manager.add_hookspecs(HookSpecs)
        self._infos: list[PluginInfo] = []
        self._plugins: list[tuple[PluginInfo, Any]] = []
        self._problems: list[PluginProblem] = []
        self._claims: dict[tuple[PortName, str], list[Claim]] = {}
        self._refused: list[Claim] = []
        self._all = False
        from . import builtin

        self.register(builtin, name="builtin", distribution="loom-runtime")

    @property
    def loaded_all(self) -> bool:
        """Whether the installed plugins have been loaded."""
        return self._all

    def register(self, plugin: object, *, name: str, distribution: str = "this program") -> None:
        """Add a plugin that is at hand: a module or object with ``@hookimpl`` functions. Problems go to the report."""
        found = FoundPlugin(name=name, value="", distribution=distribution, version="", load=lambda: plugin)
        self._add(plugin, self._info(found))

    def load_all(self) -> None:
        """Load every installed plugin; the second time there is nothing to do."""
        if self._all:
            return
        self._all = True
        for found in self._find():
            info = self._info(found)
            if found.unreadable:
                self._problem("broken", info, found.unreadable)
                continue
            began = self._timer()
            try:
                plugin = found.load()
            except (Exception, SystemExit) as error:
                self._report_failed_load(info, error)
                continue
            info.seconds = self._timer() - began
            if info.seconds > self._slow_seconds:
                self._problem(
                    "slow", info,
                    f"importing {info.value} took {info.seconds:.2f} s (more than {self._slow_seconds:g} s); "
                    "a plugin module should import its driver on first use only",
                )  # fmt: skip
            self._add(plugin, info)

    def claims(self, port: PortName, scheme: str) -> list[Claim]:
        """Who, of those loaded so far, serves the port under the scheme. More than one is a conflict."""
        return list(self._claims.get((port, scheme), ()))

    def refused(self, scheme: str) -> list[Claim]:
        """Claims on the scheme that were turned down, each with its reason."""
        return [claim for claim in self._refused if claim.spec.scheme == scheme]

    def specs(self) -> list[AdapterSpec]:
        """Every accepted adapter of the plugins loaded so far, built-in ones first."""
        return [claim.spec for claims in self._claims.values() for claim in claims]

    def call(self, hook: str, **arguments: Any) -> list[Any]:
        """Call the hook on every loaded plugin, in the order of loading; results that are not None.

        One that raises is added to the report and the next one is called.
        """
        results = [self._call_one(plugin, info, hook, arguments) for info, plugin in list(self._plugins)]
        return [result for result in results if result is not None]

    def report(self) -> PluginReport:
        """What is known so far, conflicts included. Call ``load_all`` first for the whole picture."""
        return PluginReport(plugins=tuple(self._infos), problems=(*self._problems, *self._duplicates()))

    def _info(self, found: FoundPlugin) -> PluginInfo:
        info = PluginInfo(
            name=found.name, distribution=found.distribution, version=found.version, value=found.value, adapters=[]
        )
        self._infos.append(info)
        return info

    def _problem(self, code: ProblemCode, info: PluginInfo, message: str) -> None:
        self._problems.append(
            PluginProblem(code=code, plugin=info.name, distribution=info.distribution, message=message)
        )

    def _report_failed_load(self, info: PluginInfo, error: BaseException) -> None:
        module, _, attribute = info.value.partition(":")
        missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        if missing and (module == error.name or module.startswith(f"{error.name}.")):  # type: ignore[attr-defined]
            self._problem("not-found", info, f"its entry point names the module {module!r}, which does not exist")
        elif isinstance(error, AttributeError) and attribute:
            self._problem("not-found", info, f"its entry point names {info.value!r}: {error}")
        else:
            self._problem(
                "broken", info, f"importing {info.value or 'it'} raised {type(error).__name__}: {error}; "
                f"upgrade or uninstall {info.distribution}",
            )  # fmt: skip

    def _add(self, plugin: Any, info: PluginInfo) -> None:
        try:
            if self._manager.is_registered(plugin):  # two entry points of one module
                info.loaded = True
                return
            self._manager.register(plugin, name=f"{info.distribution}:{info.name}")
            self._manager.check_pending()
        except Exception as error:  # validation, or an object whose attributes raise
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            self._problem("invalid", info, " ".join(str(error).split()))
            return
        if not self._manager.get_hookcallers(plugin):
            self._problem(
                "no-hooks",
                info,
                f"{info.value or 'it'} has no function marked with @loom.plugins.hookimpl; it is not used",
            )
        info.loaded = True
        self._plugins.append((info, plugin))
        for result in self._adapters(plugin, info):
            self._claim(result, info)

    def _adapters(self, plugin: Any, info: PluginInfo) -> list[Any]:
        result = self._call_one(plugin, info, "loom_register_adapters", {})
        try:
            return list(result or ())
        except Exception as error:  # it may be a generator, and raise only now
            self._problem("hook-failed", info, f"loom_register_adapters raised {type(error).__name__}: {error}")
            return []

    def _call_one(self, plugin: Any, info: PluginInfo, hook: str, arguments: dict[str, Any]) -> Any:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            try:
                return implementation.function(*(arguments[name] for name in implementation.argnames))
            except Exception as error:
                self._problem("hook-failed", info, f"{hook} raised {type(error).__name__}: {error}")
        return None

    def _claim(self, spec: Any, info: PluginInfo) -> None:
        if not isinstance(spec, AdapterSpec):
            self._problem("invalid", info, f"loom_register_adapters gave {type(spec).__name__}, not an AdapterSpec")
            return
        if spec.distribution == "loom-runtime" != info.distribution:
            spec = msgspec.structs.replace(spec, distribution=info.distribution)
        where = f"adapter {spec.target} for {spec.port} at {spec.scheme}://"
        if spec.api_version != API_VERSION:
            newer = "upgrade Loom" if spec.api_version > API_VERSION else f"upgrade {info.distribution}"
            reason = f"{where} is built for plugin API {spec.api_version}, this Loom speaks {API_VERSION}; {newer}"
            self._problem("api-version", info, reason)
            self._refused.append(Claim(spec, info.name, info.distribution, reason))
            return
        if wrong := next(_wrong(spec), None):
            self._problem("invalid", info, f"{where}: {wrong}")
            self._refused.append(Claim(spec, info.name, info.distribution, f"{where}: {wrong}"))
            return
        claims = self._claims.setdefault((spec.port, spec.scheme), [])
        if not any(claim.spec == spec and claim.distribution == info.distribution for claim in claims):
            claims.append(Claim(spec, info.name, info.distribution))
            info.adapters.append(spec)

    def _duplicates(self) -> Iterator[PluginProblem]:
        for (port, scheme), claims in self._claims.items():
            if len(claims) > 1:
                names = " and ".join(f"{claim.distribution} ({claim.spec.target})" for claim in claims)
                yield PluginProblem(
                    code="duplicate", plugin=claims[-1].plugin, distribution=claims[-1].distribution,
                    message=f"{port} at {scheme}:// is claimed by {names}; it cannot be used until one is uninstalled",
                )  # fmt: skip


def _wrong(spec: AdapterSpec) -> Iterator[str]:
    """What is wrong with a spec; Structs do not check the types they are made with."""
    port, scheme, target, facts, features = _untyped(spec)
    if port not in PORTS:
        yield f"there is no port {port!r} ({', '.join(PORTS)})"
    if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
        yield "a scheme is lower-case letters, digits, '+', '.' and '-', without ://"
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        yield "a target looks like package.module:Class"
    if not isinstance(facts[0], Durability) or not isinstance(facts[1], Reach):
        yield "durability and reach must be members of loom.plugins.Durability and Reach"
    if not isinstance(features, frozenset) or not all(isinstance(feature, Feature) for feature in features):
        yield "features must be a frozenset of members of loom.plugins.Feature"


def _untyped(spec: AdapterSpec) -> tuple[Any, Any, Any, tuple[Any, Any], Any]:
    return spec.port, spec.scheme, spec.target, (spec.durability, spec.reach), spec.features
