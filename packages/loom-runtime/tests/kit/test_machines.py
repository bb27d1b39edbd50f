"""The models that adapters are compared with: what a queue does not declare is not asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.clock import Clock
from loom.plugins.spec import Feature
from loom.ports.queue import Delivery, OutgoingMessage
from loom.testing.machines.queue import queue_machine

from .mutants.queue import IgnoresDelays

FAST = settings(max_examples=30, stateful_step_count=30, deadline=None)
DECLARED = frozenset({Feature.ORDERED, Feature.DELAYED})


class Unordered(InMemoryMessageQueue):
    """Keeps the name of a group, and no order in it."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.groups: dict[tuple[str, str], str] = {}

    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        taken = await super().send_many([msgspec.structs.replace(message, group="") for message in messages])
        for message, new in zip(messages, taken, strict=True):
            if new:
                self.groups[message.queue, message.id] = message.group
        return taken

    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        found = await super().receive(queues, limit=limit, lease=lease, wait=wait)
        return [msgspec.structs.replace(one, group=self.groups[one.queue, one.id]) for one in found]


def connect_to(queue: type[InMemoryMessageQueue]) -> Callable[[Clock], InMemoryMessageQueue]:
    return lambda clock: queue(clock=clock)


@pytest.mark.parametrize(
    ("queue", "missing"), [(Unordered, Feature.ORDERED), (IgnoresDelays, Feature.DELAYED)], ids=["ORDERED", "DELAYED"]
)
def test_what_is_not_declared_is_not_asked_for(queue: type[InMemoryMessageQueue], missing: Feature) -> None:
    run_state_machine_as_test(queue_machine(connect_to(queue), DECLARED - {missing}), settings=FAST)


def two_of_a_group(machine: Any) -> None:
    for _ in range(2):
        machine.send(queue="q", group="g", delay=0.0, life=None, priority=0, old=None)
    for _ in range(2):
        machine.receive(chosen=("q",), limit=1)


def one_with_a_delay(machine: Any) -> None:
    machine.send(queue="q", group="", delay=5.0, life=None, priority=0, old=None)
    machine.receive(chosen=("q",), limit=1)
    machine.the_counts_agree()


@pytest.mark.parametrize(
    ("queue", "steps"), [(Unordered, two_of_a_group), (IgnoresDelays, one_with_a_delay)], ids=["ORDERED", "DELAYED"]
)
def test_what_is_declared_is_compared(queue: type[InMemoryMessageQueue], steps: Callable[[Any], None]) -> None:
    for store, caught in ((InMemoryMessageQueue, False), (queue, True)):
        machine: Any = queue_machine(connect_to(store), DECLARED)()
        try:
            with pytest.raises(AssertionError) if caught else contextlib.nullcontext():
                steps(machine)
        finally:
            machine.teardown()
