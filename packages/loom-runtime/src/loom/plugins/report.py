"""PluginReport: what was found, and one named line for everything that is wrong with it."""

from __future__ import annotations

from typing import Literal

import msgspec

from .spec import AdapterSpec

__all__ = ["PluginInfo", "PluginProblem", "PluginReport", "ProblemCode"]

ProblemCode = Literal["broken", "not-found", "no-hooks", "invalid", "slow", "api-version", "duplicate", "hook-failed"]


class PluginProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong with one plugin. Nothing else is hurt by it; ``slow`` does not even hurt the plugin itself."""

    code: ProblemCode
    plugin: str
    distribution: str
    message: str

    def __str__(self) -> str:
        return f"{self.distribution} (plugin {self.plugin!r}): {self.message}"


class PluginInfo(msgspec.Struct, kw_only=True):
    """One plugin. ``seconds`` is what importing it took, ``adapters`` what it registered and was accepted."""

    name: str
    distribution: str
    version: str = ""
    value: str = ""
    loaded: bool = False
    seconds: float = 0.0
    adapters: list[AdapterSpec] = []


class PluginReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every plugin found, in the order of loading, and every problem."""

    plugins: tuple[PluginInfo, ...]
    problems: tuple[PluginProblem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; a slow import alone is a remark."""
        return all(problem.code == "slow" for problem in self.problems)

    def lines(self) -> list[str]:
        """One line a plugin and one a problem, for people."""
        plugins = [
            f"{plugin.distribution} {plugin.version or '?'} (plugin {plugin.name!r}): "
            f"{len(plugin.adapters)} adapters, imported in {plugin.seconds * 1000:.1f} ms"
            for plugin in self.plugins
            if plugin.loaded
        ]
        return plugins + [f"{problem.code}: {problem}" for problem in self.problems]
