"""The search for an order: Wing and Gong's algorithm with Lowe's memory of what was tried in vain.

J. Wing, C. Gong: Testing and Verifying Concurrent Objects, 1993. G. Lowe: Testing for Linearizability, 2017.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from .operations import NEVER, History, Operation

__all__ = ["Model", "Verdict", "check"]

S = TypeVar("S", bound=Hashable)

_SHOWN = 40


class Model(ABC, Generic[S]):
    """What one key of a port does when its calls come one after another. ``initial`` is the state nobody has touched.

    A state is a value: hashable, never changed.
    """

    initial: S

    @abstractmethod
    def step(self, state: S, operation: Operation) -> Iterable[S]:
        """The states in which ``operation`` may leave ``state``; none when it could not have returned its result there.

        For an operation whose result is ``UNKNOWN`` they are those that it may leave if it takes effect here.
        """


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What ``check`` found of one key.

    ``linearizable`` is None when the search was given up. Otherwise ``order`` is an order that explains everything, or
    all that was answered before ``culprit``: the first answer, in time, that no order explains. ``pending`` are the
    calls that were under way then and need not have taken effect.
    """

    key: str
    linearizable: bool | None
    order: tuple[Operation, ...]
    culprit: Operation | None = None
    pending: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.linearizable is None:
            yield f"{self.key!r}: the search was given up after an order of {len(self.order)} calls"
            return
        if self.culprit is None:
            yield f"{self.key!r}: linearizable, {len(self.order)} calls"
            return
        yield f"{self.key!r} is not linearizable: no order of its calls explains the answer to"
        yield f"    {_timed(self.culprit)}"
        yield f"The longest order that explains all answers before it has {len(self.order)} calls:"
        if len(self.order) > _SHOWN:
            yield f"      … {len(self.order) - _SHOWN} earlier ones"
        for number, operation in list(enumerate(self.order, 1))[-_SHOWN:]:
            yield f"{number:>5}. {_timed(operation)}"
        if self.pending:
            yield "Under way at that time, or without an answer:"
            for operation in self.pending[-_SHOWN:]:
                yield f"    {_timed(operation)}"


def check(history: History | Iterable[Operation], model: Model[S], *, limit: int = 500_000) -> list[Verdict]:
    """Judge each key of the history by itself; the verdicts in the order in which the keys appeared.

    A call takes effect at one moment between its beginning and its end. One without an answer does at any later time,
    or never. ``limit`` bounds the states visited for a key, after which its verdict is that the search was given up.
    """
    if not isinstance(history, History):
        recorded = History()
        recorded.operations += history
        history = recorded
    return [_judge(key, operations, model, limit) for key, operations in history.by_key().items()]


def _judge(key: str, operations: Sequence[Operation], model: Model[S], limit: int) -> Verdict:
    found, order = _search(operations, model, limit)
    if found is not False:
        return Verdict(key=key, linearizable=found, order=tuple(order))
    # What a prefix of the events cannot explain, no continuation explains: so the first bad answer can be halved in on.
    ends = sorted({operation.returned for operation in operations} - {NEVER})
    low, high = 0, len(ends)
    while high - low > 1:
        middle = (low + high) // 2
        fits, _ = _search(operations, model, limit, ends[middle - 1])
        low, high = (low, middle) if fits is False else (middle, high)
    culprit = next(operation for operation in operations if operation.returned == ends[low])
    _, order = _search(operations, model, limit, ends[low - 1] if low else 0.0)
    placed = {id(operation) for operation in [*order, culprit]}
    begun = (operation for operation in operations if operation.invoked < culprit.returned)
    return Verdict(
        key=key,
        linearizable=False,
        order=tuple(order),
        culprit=culprit,
        pending=tuple(operation for operation in begun if id(operation) not in placed),
    )


def _search(
    operations: Sequence[Operation], model: Model[S], limit: int, until: float = NEVER
) -> tuple[bool | None, list[Operation]]:
    """Whether an order exists, and it; or else the longest that was found.

    Of what happened after ``until`` nothing is known: what had begun by then may have taken effect, and then with the
    answer that it got later, or not yet.
    """
    operations = [operation for operation in operations if operation.invoked < until]
    ends = [operation.returned if operation.returned <= until else NEVER for operation in operations]
    wanted = sum(1 << n for n, end in enumerate(ends) if end != NEVER)
    done, states = 0, frozenset([model.initial])
    tried = {(done, states)}
    path: list[int] = []
    longest: list[int] = []
    branches = [(done, states, iter(_candidates(operations, ends, done)))]
    while branches:
        done, states, choices = branches[-1]
        if done & wanted == wanted:
            return True, [operations[n] for n in path]
        for choice in choices:
            after = done | 1 << choice
            reached = frozenset(one for state in states for one in model.step(state, operations[choice]))
            if reached and (after, reached) not in tried:
                tried.add((after, reached))
                path.append(choice)
                branches.append((after, reached, iter(_candidates(operations, ends, after))))
                break
        else:
            branches.pop()
            if path:
                path.pop()
        if len(path) > len(longest):
            longest = list(path)
        if len(tried) > limit:
            return None, [operations[n] for n in longest]
    return False, [operations[n] for n in longest]


def _candidates(operations: Sequence[Operation], ends: Sequence[float], done: int) -> list[int]:
    """Which may come next: those that began before any other that is not placed had ended. The likeliest first."""
    found: list[int] = []
    earliest = NEVER
    # The lowest bit that is not set: everything before it is placed.
    start = (~done & done + 1).bit_length() - 1
    for n in range(start, len(operations)):
        if done >> n & 1:
            continue
        if operations[n].invoked > earliest:
            break
        found.append(n)
        earliest = min(earliest, ends[n])
    return sorted(found, key=ends.__getitem__)


def _timed(operation: Operation) -> str:
    end = "…" if operation.returned == NEVER else f"{operation.returned:g}"
    return f"[{operation.invoked:g}..{end}] {operation}"
