"""A pytest plugin, for those who ask for it: ``pytest_plugins = ["loom.testing.plugin"]``.

The fixtures need no async plugin: ``loom_app`` is a function that gives an async context manager, so that a test may
run its loop by pytest-asyncio, by anyio or by ``asyncio.run``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from ..app import Loom
from .app import memory_app
from .virtual_clock import VirtualClock

__all__ = ["LoomApp", "loom_app", "loom_clock"]

LoomApp = Callable[..., AbstractAsyncContextManager[Loom]]


@pytest.fixture
def loom_clock() -> VirtualClock:
    """The test's clock: it jumps where nothing but time is waited for; see ``VirtualClock``."""
    return VirtualClock()


@pytest.fixture
def loom_app(loom_clock: VirtualClock) -> LoomApp:
    """Makes apps over memory on the test's clock, one after another or side by side; see ``memory_app``."""
    return functools.partial(memory_app, clock=loom_clock)
