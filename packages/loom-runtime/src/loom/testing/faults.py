"""Adapters that fail on purpose, by a plan that a seed repeats exactly.

``Loom(adapters={"journal": Faulty(InMemoryJournalStore(), FaultPlan(seed=7, rate=0.2))})``: the wrapper has the port of
what it wraps, calls it, and now and then loses the request, loses the answer, delays, repeats, or answers reads with
what was true earlier. Whatever stands on the port must neither lose nor double anything.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import random
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

from ..errors import StoreUnavailableError
from ..ports import Port

__all__ = ["Fault", "FaultPlan", "Faulty"]

P = TypeVar("P", bound=Port)


class Fault(enum.Enum):
    """What may happen to one call of an adapter."""

    REFUSED = "refused"
    """It fails before it has any effect, and says so."""
    LOST_REQUEST = "lost request"
    """It never arrives; the caller can't know that (``unknown=True``)."""
    LOST_ACK = "lost ack"
    """It takes effect and the answer is lost (``unknown=True``)."""
    DELAY = "delay"
    """It takes effect a few rounds of the event loop later, behind calls that were made after it."""
    DUPLICATE = "duplicate"
    """It arrives twice; the caller sees the first answer. Only for calls that a network may repeat."""
    STALE = "stale"
    """A read is answered with what an equal read got before."""


_REPEATED = frozenset({"append_many", "send_many", "ack", "write_snapshot", "trim"})
_READS = frozenset({"heads", "read", "read_snapshot", "get", "query"})
_LIFE = frozenset({"start", "close"})

USUAL = (Fault.REFUSED, Fault.LOST_REQUEST, Fault.LOST_ACK, Fault.DELAY, Fault.DUPLICATE)
"""Everything that a correct store may do. A stale read breaks the contract of the ports and has to be asked for."""


class FaultPlan:
    """Decides the fate of every call.

    Args:
        seed: of the dice; the same calls in the same order meet the same faults.
        rate: the share of calls that meet one, from 0 to 1.
        faults: what may happen.
        methods: the methods it may happen to; None for all. ``start`` and ``close`` are left alone.
        limit: how many faults at most; None for no limit.

    ``happened`` lists what was done, as (method, fault), for the message of a failing test. ``calm`` ends the faults.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        rate: float = 0.0,
        faults: Iterable[Fault] = USUAL,
        methods: Collection[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self._dice = random.Random(seed)
        self._rate = rate
        self._faults = tuple(faults)
        self._methods = methods
        self._limit = limit
        self._planned: dict[tuple[str, int], Fault] = {}
        self._counts: dict[str, int] = {}
        self.happened: list[tuple[str, Fault]] = []

    def at(self, method: str, nth: int, fault: Fault) -> FaultPlan:
        """Let the ``nth`` call of ``method`` from now on, counted from 1, meet ``fault``, whatever the dice say."""
        self._planned[method, self._counts.get(method, 0) + nth] = fault
        return self

    def calm(self) -> None:
        """No more faults."""
        self._rate = 0.0
        self._planned.clear()

    def count(self, method: str) -> int:
        """How often ``method`` was called."""
        return self._counts.get(method, 0)

    def fate(self, method: str) -> Fault | None:
        """What happens to the next call of ``method``."""
        number = self._counts[method] = self._counts.get(method, 0) + 1
        fault = self._planned.pop((method, number), None)
        if fault is None:
            fault = self._thrown(method)
        if fault is not None:
            self.happened.append((method, fault))
        return fault

    def rounds(self) -> int:
        """For how many rounds of the event loop a delayed call waits."""
        return self._dice.randint(1, 20)

    def _thrown(self, method: str) -> Fault | None:
        if self._methods is not None and method not in self._methods:
            return None
        if self._limit is not None and len(self.happened) >= self._limit:
            return None
        if self._dice.random() >= self._rate:
            return None
        able = [fault for fault in self._faults if _suits(fault, method)]
        return self._dice.choice(able) if able else None


def Faulty(adapter: P, plan: FaultPlan) -> P:
    """``adapter`` behind a plan: of the same port, and of whatever else of it is not a method of the port."""
    port = next(base for base in type(adapter).__mro__ if base.__module__.startswith("loom.ports."))
    return cast(P, _wrapper(port)(adapter, plan))


@lru_cache(maxsize=64)
def _wrapper(port: type[Port]) -> Any:
    async_methods = [
        name for name, method in inspect.getmembers(port, inspect.iscoroutinefunction)
        if not name.startswith("_") and (name in _LIFE or getattr(method, "__isabstractmethod__", False))
    ]  # fmt: skip
    space: dict[str, Any] = {name: _method(name) for name in async_methods}
    space["__init__"] = _init
    space["__getattr__"] = _attribute
    for name, method in inspect.getmembers(port, inspect.isfunction):
        if not name.startswith("_") and not inspect.iscoroutinefunction(method):
            space[name] = _forward(name)
    # Settings such as dedupe_window are defaults on the port's class: those of the wrapped adapter count.
    for name, value in vars(port).items():
        if not name.startswith("_") and not callable(value):
            space[name] = property(partial(_setting, name=name))
    return type(f"Faulty{port.__name__}", (port,), space)


def _init(self: Any, adapter: Port, plan: FaultPlan) -> None:
    self._adapter = adapter
    self._plan = plan
    self._seen = {}


def _attribute(self: Any, name: str) -> Any:
    return getattr(self.__dict__["_adapter"], name)


def _setting(self: Any, *, name: str) -> Any:
    return getattr(self._adapter, name)


def _forward(name: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: getattr(self._adapter, name)(*args, **kwargs)


def _method(name: str) -> Callable[..., Any]:
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = getattr(self._adapter, name)
        if name in _LIFE:
            return await inner(*args, **kwargs)
        plan: FaultPlan = self._plan
        fault = plan.fate(name)
        key = f"{name}{args!r}{kwargs!r}" if name in _READS else ""
        if fault is Fault.STALE and key in self._seen:
            return self._seen[key]
        await _before(name, fault, plan)
        result = await inner(*args, **kwargs)
        if key:
            self._seen.setdefault(key, result)
        if fault is Fault.DUPLICATE:
            await inner(*args, **kwargs)
        if fault is Fault.LOST_ACK:
            raise StoreUnavailableError(f"{name}: the answer was lost on the way (planned)", unknown=True)
        return result

    call.__name__ = name
    return call


async def _before(name: str, fault: Fault | None, plan: FaultPlan) -> None:
    if fault is Fault.REFUSED:
        raise StoreUnavailableError(f"{name}: refused (planned)")
    if fault is Fault.LOST_REQUEST:
        raise StoreUnavailableError(f"{name}: the request was lost on the way (planned)", unknown=True)
    if fault is Fault.DELAY:
        for _ in range(plan.rounds()):
            await asyncio.sleep(0)


def _suits(fault: Fault, method: str) -> bool:
    if fault is Fault.DUPLICATE:
        return method in _REPEATED
    if fault is Fault.STALE:
        return method in _READS
    return True
