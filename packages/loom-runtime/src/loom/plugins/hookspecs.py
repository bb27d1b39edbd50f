"""The hooks of the entry-point group ``loom.plugins``. They register and they mark the life of an app; none is hot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from .spec import AdapterSpec

__all__ = ["GROUP", "HookSpecs", "hookimpl", "hookspec"]

GROUP = "loom.plugins"
"""The entry-point group. An entry point names a light module whose functions are marked with ``@hookimpl``."""

hookspec = pluggy.HookspecMarker("loom")
hookimpl = pluggy.HookimplMarker("loom")
"""Marks a function of a plugin as the implementation of the hook of its name."""


class HookSpecs:
    """What a plugin may implement; every hook is optional. A hook that raises is reported and hurts no other plugin."""

    @hookspec
    def loom_register_adapters(self) -> Iterable[AdapterSpec]:  # type: ignore[empty-body]
        """The adapters of this plugin. Called once, and must import no driver: ``target`` is imported on first use."""

    @hookspec
    def loom_guard_rules(self) -> Iterable[Any]:  # type: ignore[empty-body]
        """Rules (``loom.guard.GuardRule``) that check this plugin's adapters before production starts."""

    @hookspec
    def loom_cli_commands(self, app: Any) -> None:
        """Add commands to the ``loom`` command; ``app`` is its ``typer.Typer``."""

    @hookspec
    def loom_runtime_started(self, app: Any) -> None:
        """The app ``app`` (``loom.Loom``) has started and serves. Must return quickly: it runs on the event loop."""

    @hookspec
    def loom_runtime_stopping(self, app: Any) -> None:
        """The app is about to stop; it still serves. Must return quickly."""
