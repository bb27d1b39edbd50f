"""The check of concurrent histories: on histories made by hand, and on adapters that fail by plan."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest

from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.memory.lock import InMemoryLockManager
from loom.errors import FencedError, JournalConflictError, JournalGapError, LockLostError, StoreUnavailableError
from loom.ports.journal import Append, Appended, Head, JournalEntry, Snapshot
from loom.ports.lock import Lease
from loom.testing import Fault, FaultPlan, Faulty, ManualClock
from loom.testing.linearizability import (
    UNKNOWN,
    History,
    JournalModel,
    LockModel,
    Model,
    Operation,
    RecordingJournal,
    RecordingLocks,
    Verdict,
    check,
    drive_journal,
    drive_locks,
)

NEVER = float("inf")


class Register(Model[int]):
    """A number that is written, read, and added to."""

    initial = 0

    def step(self, state: int, operation: Operation) -> Iterable[int]:
        match operation.method, operation.arguments:
            case "write", (value,):
                return [value]
            case "add", (value,):
                return [state + value] if operation.result in (state + value, UNKNOWN) else []
            case _:
                return [state] if operation.result == state else []


def op(client: str, method: str, *arguments: Any, at: tuple[float, float], returns: Any = None, key: str = "k") -> Any:
    return Operation(
        client=client, key=key, method=method, arguments=arguments, result=returns, invoked=at[0], returned=at[1],
        began=at[0], ended=at[1],
    )  # fmt: skip


def judge(model: Model[Any], *operations: Operation, limit: int = 100_000) -> Verdict:
    [verdict] = check(operations, model, limit=limit)
    return verdict


def test_calls_one_after_the_other_must_agree_with_the_model() -> None:
    good = [op("a", "write", 1, at=(1, 2)), op("b", "read", at=(3, 4), returns=1)]
    assert judge(Register(), *good).linearizable
    assert judge(Register(), *good).order == tuple(good)
    assert judge(Register(), good[0], op("b", "read", at=(3, 4), returns=0)).linearizable is False


@pytest.mark.parametrize("seen", [0, 1])
def test_calls_at_the_same_time_may_have_either_order(seen: int) -> None:
    assert judge(Register(), op("a", "write", 1, at=(1, 4)), op("b", "read", at=(2, 3), returns=seen)).linearizable


def test_what_one_reader_has_seen_later_readers_see_too() -> None:
    write = op("a", "write", 1, at=(1, 10))
    new, old = op("b", "read", at=(2, 3), returns=1), op("c", "read", at=(4, 5), returns=0)
    verdict = judge(Register(), write, new, old)
    assert verdict.linearizable is False
    assert verdict.culprit == old
    assert verdict.order == (write, new)
    assert judge(
        Register(), write, op("c", "read", at=(2, 3), returns=0), op("b", "read", at=(4, 5), returns=1)
    ).linearizable


def test_an_order_is_found_though_the_first_guess_is_wrong() -> None:
    operations = [
        op("a", "add", 1, at=(1, 10), returns=3),
        op("b", "add", 1, at=(2, 11), returns=1),
        op("c", "add", 1, at=(3, 12), returns=2),
        op("d", "read", at=(13, 14), returns=3),
    ]
    assert [one.client for one in judge(Register(), *operations).order] == ["b", "c", "a", "d"]


@pytest.mark.parametrize(
    ("reads", "fits"),
    [([0, 0], True), ([0, 5], True), ([5, 5], True), ([5, 0], False), ([3], False)],
    ids=["never", "late", "early", "and back", "in part"],
)
def test_a_call_without_an_answer_takes_effect_once_at_any_later_time_or_never(reads: list[int], fits: bool) -> None:
    unknown = op("a", "add", 5, at=(1, NEVER), returns=UNKNOWN)
    seen = [op("b", "read", at=(10 * n, 10 * n + 1), returns=value) for n, value in enumerate(reads, 1)]
    assert judge(Register(), unknown, *seen).linearizable is fits


def test_a_call_without_an_answer_has_no_effect_before_it_began() -> None:
    seen = op("b", "read", at=(1, 2), returns=5)
    assert judge(Register(), seen, op("a", "add", 5, at=(3, NEVER), returns=UNKNOWN)).linearizable is False


def test_the_first_bad_answer_is_named_and_those_after_it_are_left_out() -> None:
    writes = [op("a", "write", n, at=(10 * n, 10 * n + 1)) for n in range(1, 60)]
    bad = op("b", "read", at=(305, 306), returns=29)
    worse = op("b", "read", at=(405, 406), returns=2)
    verdict = judge(Register(), *writes, bad, worse, op("c", "write", 7, at=(303, 310)))
    assert verdict.culprit == bad
    assert [one.arguments for one in verdict.order] == [(n,) for n in range(1, 31)]
    text = str(verdict)
    assert "'k' is not linearizable: no order of its calls explains the answer to" in text
    assert "[305..306] b: read() -> 29" in text
    assert "[303..310] c: write(7) -> None" in text.partition("Under way")[2]


def test_keys_are_judged_apart() -> None:
    operations = [
        op("a", "write", 1, at=(1, 2), key="x"),
        op("a", "read", at=(3, 4), returns=0, key="y"),
        op("a", "read", at=(5, 6), returns=0, key="x"),
    ]
    assert {one.key: one.linearizable for one in check(operations, Register())} == {"x": False, "y": True}


def test_a_search_that_grows_too_large_is_given_up_and_says_so() -> None:
    crowd = [op(f"c{n}", "add", 2**n, at=(n, 1000.0 + n), returns=-1) for n in range(20)]
    crowd += [op(f"d{n}", "add", 2**n, at=(n, NEVER), returns=UNKNOWN) for n in range(20)]
    verdict = judge(Register(), *crowd, limit=500)
    assert verdict.linearizable is None
    assert "given up" in str(verdict)


def test_what_a_search_by_force_finds_this_one_finds() -> None:
    """Small random histories, judged by trying every order."""
    dice = random.Random(5)
    verdicts = set()
    for _ in range(300):
        operations = []
        for n in range(5):
            start = dice.uniform(0, 10)
            end = NEVER if dice.random() < 0.2 else start + dice.uniform(0.1, 6)
            result = UNKNOWN if end == NEVER else dice.randint(1, 3)
            operations.append(op(f"c{n}", "add", 1, at=(start, end), returns=result))
        verdict = judge(Register(), *operations).linearizable
        assert verdict is _by_force(operations)
        verdicts.add(verdict)
    assert verdicts == {True, False}


def _by_force(operations: list[Operation]) -> bool:
    answered = [one for one in operations if one.returned != NEVER]
    silent = [one for one in operations if one.returned == NEVER]
    for count in range(len(silent) + 1):
        for some in itertools.combinations(silent, count):
            for order in itertools.permutations([*answered, *some]):
                in_time = all(a.invoked <= b.returned for a, b in itertools.combinations(order, 2))
                if in_time and all(one.result in (n, UNKNOWN) for n, one in enumerate(order, 1)):
                    return True
    return False


def append(seq: int, before: str, id: str, *, at: tuple[float, float], returns: Any, fence: int = 0) -> Any:
    return op("w", "append", Append("k", seq, before, id, id.encode(), fence), at=at, returns=returns)


CONFLICT = JournalConflictError("", head=Head(1, "a"))


@pytest.mark.parametrize(
    ("operations", "fits"),
    [
        ([append(0, "", "a", at=(1, 2), returns=Appended(1)), append(0, "", "b", at=(3, 4), returns=CONFLICT)], True),
        ([append(0, "", "a", at=(1, 4), returns=Appended(1)), append(0, "", "b", at=(2, 3), returns=CONFLICT)], True),
        ([append(0, "", name, at=(1, 2), returns=Appended(1)) for name in ("a", "b")], False),
        ([append(0, "", "a", at=(1, 2), returns=CONFLICT)], False),
        (
            [
                append(0, "", "a", at=(1, NEVER), returns=UNKNOWN),
                append(0, "", "a", at=(2, 3), returns=Appended(1, duplicate=True)),
            ],
            True,
        ),
        (
            [
                append(0, "", "a", at=(1, NEVER), returns=UNKNOWN),
                append(0, "", "b", at=(2, 3), returns=Appended(1)),
                op("r", "head", at=(4, 5), returns=Head(1, "a")),
            ],
            False,
        ),
        (
            [
                append(0, "", "a", at=(1, 2), returns=Appended(1), fence=3),
                append(1, "a", "b", at=(3, 4), returns=FencedError("", head=Head(1, "a", 3)), fence=2),
            ],
            True,
        ),
        (
            [
                append(0, "", "a", at=(1, 2), returns=Appended(1)),
                op("r", "head", at=(3, 4), returns=Head()),
            ],
            False,
        ),
        (
            [
                append(0, "", "a", at=(1, 6), returns=Appended(1)),
                op("r", "head", at=(2, 3), returns=Head(1, "a")),
                op("r", "read", 0, 10, at=(4, 5), returns=[]),
            ],
            False,
        ),
        (
            [
                append(0, "", "a", at=(1, 2), returns=Appended(1)),
                op("r", "write_snapshot", Snapshot(1, b"s"), at=(3, 8), returns=True),
                op("r", "head", at=(4, 5), returns=Head(1, "a", 0, 1)),
                op("r", "trim", 1, at=(6, 7), returns=1),
                op("r", "read", 0, 10, at=(8, 9), returns=JournalGapError("")),
                op("r", "read_snapshot", at=(8, 9), returns=Snapshot(1, b"s")),
            ],
            True,
        ),
        (
            [
                append(0, "", "a", at=(1, 2), returns=Appended(1)),
                op("r", "read", 0, 10, at=(3, 4), returns=JournalGapError("")),
            ],
            False,
        ),
        (
            [
                append(0, "", "a", at=(1, 2), returns=Appended(1)),
                op("r", "read", 0, 10, at=(3, 4), returns=[JournalEntry(1, "a", 0, b"a")]),
                op("r", "write_snapshot", Snapshot(1, b"s"), at=(5, 6), returns=True),
                op("r", "write_snapshot", Snapshot(1, b"t"), at=(7, 8), returns=True),
            ],
            False,
        ),
    ],
)  # fmt: skip
def test_histories_of_a_stream(operations: list[Operation], fits: bool) -> None:
    assert judge(JournalModel(), *operations).linearizable is fits


def lease(token: int, until: float = 100.0, holder: str = "") -> Lease:
    return Lease("k", token, holder or f"h{token}", until)


LOST = LockLostError("")


@pytest.mark.parametrize(
    ("operations", "fits"),
    [
        ([op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1)), op("b", "acquire", 9, 0, at=(3, 4))], True),
        ([op("a", "acquire", 9, 0, at=(1, 2))], False),
        ([op(f"c{n}", "acquire", 9, 0, at=(1, 4), returns=lease(n)) for n in (1, 2)], False),
        (
            [
                op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1)),
                op("b", "acquire", 9, 60, at=(3, 8), returns=lease(2)),
                op("a", "release", lease(1), at=(5, 6), returns=True),
            ],
            True,
        ),
        (
            [
                op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1)),
                op("a", "release", lease(1), at=(3, 4), returns=True),
                op("b", "acquire", 9, 0, at=(5, 6), returns=lease(1, holder="x")),
            ],
            False,
        ),
        ([op("a", "acquire", 9, 0, at=(6 * n, 6 * n + 1), returns=lease(n, 12.0 * n)) for n in (1, 2)], True),
        ([op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1, 5.0)), op("b", "acquire", 9, 0, at=(6, 7))], False),
        (
            [
                op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1, 5.0)),
                op("a", "renew", lease(1, 5.0), 9, at=(3, 4), returns=lease(1, 12.0)),
                op("b", "acquire", 9, 0, at=(6, 7)),
                op("a", "renew", lease(1, 5.0), 9, at=(13, 14), returns=LOST),
                op("a", "release", lease(1, 5.0), at=(15, 16), returns=False),
            ],
            True,
        ),
        (
            [
                op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1)),
                op("a", "renew", lease(1), 9, at=(3, 4), returns=LOST),
            ],
            False,
        ),
        ([op("a", "acquire", 9, 0, at=(1, NEVER), returns=UNKNOWN), op("b", "acquire", 9, 0, at=(3, 4))], True),
        ([op("b", "acquire", 9, 0, at=(3, 4)), op("a", "acquire", 9, 0, at=(5, NEVER), returns=UNKNOWN)], False),
        (
            [
                op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1)),
                op("a", "release", lease(1), at=(3, NEVER), returns=UNKNOWN),
                op("b", "acquire", 9, 0, at=(4, 5)),
                op("b", "acquire", 9, 0, at=(6, 7), returns=lease(2)),
                op("c", "acquire", 9, 0, at=(8, 9)),
            ],
            True,
        ),
        (
            [
                op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1, 5.0)),
                op("a", "renew", lease(1, 5.0), 9, at=(3, NEVER), returns=UNKNOWN),
                op("b", "acquire", 9, 0, at=(6, 7)),
            ],
            True,
        ),
    ],
)  # fmt: skip
def test_histories_of_a_lock(operations: list[Operation], fits: bool) -> None:
    assert judge(LockModel(), *operations).linearizable is fits


def test_tokens_count_only_for_a_manager_that_fences_and_clocks_may_differ() -> None:
    taken = op("a", "acquire", 9, 0, at=(1, 2), returns=lease(1, 5.0))
    again = op("b", "acquire", 9, 0, at=(6, 7), returns=lease(1, holder="x"))
    assert not judge(LockModel(), taken, again).linearizable
    assert judge(LockModel(fencing=False), taken, again).linearizable
    early = op("b", "acquire", 9, 0, at=(3, 4), returns=lease(2))
    assert not judge(LockModel(), taken, early).linearizable
    assert judge(LockModel(skew=2.0), taken, early).linearizable


async def _journal(plan: FaultPlan, seed: int) -> list[Verdict]:
    store = Faulty(InMemoryJournalStore(), plan)
    history = History()
    clients = [RecordingJournal(store, history, f"client {n}") for n in range(4)]
    await drive_journal(clients, ["s", "t"], seed=seed)
    return check(history, JournalModel())


@pytest.mark.parametrize("seed", range(5))
async def test_a_journal_behind_a_bad_network_is_still_linearizable(seed: int) -> None:
    """Lost requests and answers, delays and repetitions are what the contract allows."""
    plan = FaultPlan(seed, rate=0.3)
    for verdict in await _journal(plan, seed):
        assert verdict.linearizable, str(verdict)
    assert {fault for _, fault in plan.happened} >= {Fault.LOST_ACK, Fault.LOST_REQUEST, Fault.DELAY, Fault.DUPLICATE}


async def test_stale_reads_are_found() -> None:
    verdicts = await _journal(FaultPlan(1, rate=0.3, faults=[Fault.STALE]), 1)
    assert any(verdict.linearizable is False for verdict in verdicts)


@pytest.mark.parametrize("seed", range(5))
async def test_locks_behind_a_bad_network_are_still_linearizable(seed: int) -> None:
    clock = ManualClock()
    plan = FaultPlan(seed, rate=0.3, faults=[Fault.REFUSED, Fault.LOST_ACK, Fault.LOST_REQUEST, Fault.DELAY])
    locks, history = Faulty(InMemoryLockManager(clock=clock), plan), History(clock.now)

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    clients = [RecordingLocks(locks, history, f"client {n}") for n in range(4)]
    await drive_locks(clients, ["l", "m", "n"], seed=seed, ttl=30.0, pass_time=pass_time)
    for verdict in check(history, LockModel()):
        assert verdict.linearizable, str(verdict)
    assert any(operation.result is UNKNOWN for operation in history.operations)


async def test_what_is_recorded() -> None:
    """One operation a stream, refusals included; nothing for what had no effect; no answer for what is unknown."""
    history = History(lambda: 7.0)
    plan = FaultPlan().at("append_many", 2, Fault.REFUSED).at("append_many", 3, Fault.LOST_ACK)
    store = RecordingJournal(Faulty(InMemoryJournalStore(), plan), history, "one")
    await store.append_many([Append("s", 0, "", "a", b""), Append("t", 1, "?", "b", b"")])
    for append_id in ("c", "d"):
        with contextlib.suppress(StoreUnavailableError):
            await store.append(Append("s", 1, "a", append_id, b""))
    assert [(one.key, one.invoked, one.returned) for one in history.operations] == [
        ("s", 1, 2),
        ("t", 1, 2),
        ("s", 4, NEVER),
    ]
    first, second, third = (one.result for one in history.operations)
    assert first == Appended(1)
    assert isinstance(second, JournalConflictError)
    assert third is UNKNOWN
    assert {(one.began, one.ended) for one in history.operations} == {(7.0, 7.0), (7.0, NEVER)}
