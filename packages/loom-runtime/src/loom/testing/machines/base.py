"""The base of the machines: an adapter that lives in one event loop for the length of an example."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from ...ports.port import Port

__all__ = ["AdapterMachine"]

P = TypeVar("P", bound=Port)
T = TypeVar("T")


class AdapterMachine(RuleBasedStateMachine, Generic[P]):
    """Opens a fresh adapter for each example; ``self.run(coroutine)`` runs a call to its end."""

    def __init__(self, open_adapter: Callable[[], P]) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.adapter = open_adapter()
        self.run(self.adapter.start())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def teardown(self) -> None:
        try:
            self.run(self.adapter.close())
        finally:
            self._runner.close()
