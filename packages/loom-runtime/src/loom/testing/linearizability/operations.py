"""Calls as they were seen from outside: who made them, from when to when, and what came back."""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec

from ...errors import PortError, StoreUnavailableError

__all__ = ["NEVER", "UNKNOWN", "Flight", "History", "Operation"]


class _Unknown(enum.Enum):
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "no answer"


UNKNOWN: Final[Literal[_Unknown.UNKNOWN]] = _Unknown.UNKNOWN
"""The result of a call whose answer nobody has seen: it took effect once, at any time after it began, or never."""

NEVER: Final = float("inf")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    ``key`` is what it was about: a stream, a lock. Operations on different keys say nothing about one another.
    ``invoked`` and ``returned`` are positions in one order of events, the same for all clients; ``returned`` is
    ``NEVER`` for a call without an answer. ``result`` is what it returned, the error that it raised, or ``UNKNOWN``.
    ``began`` and ``ended`` are the adapter's clock at the two moments, in Unix seconds, for models of leases.
    """

    client: str
    key: str
    method: str
    arguments: tuple[Any, ...]
    result: Any
    invoked: float
    returned: float
    began: float = 0.0
    ended: float = NEVER

    def __str__(self) -> str:
        arguments = ", ".join(map(_short, self.arguments))
        return f"{self.client}: {self.method}({arguments}) -> {_short(self.result)}"


class Flight:
    """Calls under way, of which the answers can be noted. One call of an adapter may be operations on several keys."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = list(operations)

    def answer(self, *results: Any) -> None:
        """Note one result an operation, in their order."""
        self.operations = [
            msgspec.structs.replace(operation, result=result)
            for operation, result in zip(self.operations, results, strict=True)
        ]


class History:
    """What all clients did, in one event loop.

    Args:
        now: the adapter's clock, in Unix seconds.
        tick: gives each beginning and each end its place among all events. The order of the calls made here, unless the
            histories of several processes are to be put together: ``time.monotonic`` is one clock for a whole machine.
        log: is told of each operation when it begins, as one without an answer, and when it has ended; for histories
            that must outlive their process.
    """

    def __init__(
        self,
        now: Callable[[], float] = lambda: 0.0,
        *,
        tick: Callable[[], float] | None = None,
        log: Callable[[Operation], None] = lambda operation: None,
    ) -> None:
        self._now = now
        self._tick = tick or map(float, itertools.count(1)).__next__
        self._log = log
        self.operations: list[Operation] = []
        """Every operation that has ended, in the order of their ends."""

    @contextmanager
    def call(
        self, client: str, keys: Sequence[str], method: str, arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[Flight]:
        """Record a call on each of ``keys``: ``with history.call(…) as flight: flight.answer(await …)``.

        A ``PortError`` that leaves the block is its answer, unless it is a StoreUnavailableError: then the call had no
        effect and is not recorded, or with ``unknown=True`` has no answer. One that was cancelled has none either.
        """
        invoked, began = self._tick(), self._now()
        flight = Flight(
            [
                Operation(
                    client=client, key=key, method=method, arguments=given, result=UNKNOWN, invoked=invoked,
                    returned=NEVER, began=began,
                )
                for key, given in zip(keys, arguments, strict=True)
            ]
        )  # fmt: skip
        for operation in flight.operations:
            self._log(operation)
        try:
            yield flight
        except asyncio.CancelledError:
            self.operations += flight.operations
            raise
        except StoreUnavailableError as error:
            if error.unknown:
                self.operations += flight.operations
            raise
        except PortError as error:
            flight.answer(*[error] * len(flight.operations))
            self._end(flight)
            raise
        self._end(flight)

    def _end(self, flight: Flight) -> None:
        returned, ended = self._tick(), self._now()
        for operation in flight.operations:
            if isinstance(operation.result, StoreUnavailableError) and not operation.result.unknown:
                continue
            if operation.result is UNKNOWN or isinstance(operation.result, StoreUnavailableError):
                self.operations.append(msgspec.structs.replace(operation, result=UNKNOWN))
                continue
            self.operations.append(msgspec.structs.replace(operation, returned=returned, ended=ended))
            self._log(self.operations[-1])

    def by_key(self) -> dict[str, list[Operation]]:
        """The operations of each key, in the order in which they began."""
        found: dict[str, list[Operation]] = {}
        for operation in sorted(self.operations, key=lambda one: one.invoked):
            found.setdefault(operation.key, []).append(operation)
        return found


def _short(value: Any) -> str:
    text = f"{type(value).__name__}: {value}" if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 200 else f"{text[:160]}…{text[-30:]}"
