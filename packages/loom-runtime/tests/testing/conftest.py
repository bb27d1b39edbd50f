"""The plugin as a user has it."""

from loom.testing.plugin import loom_app, loom_clock

__all__ = ["loom_app", "loom_clock"]
