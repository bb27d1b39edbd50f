"""A turn is alone, works on a copy, and leaves nothing behind but its commit."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest

from loom import Actor, Loom, read_only
from loom.errors import (
    InvalidResultError,
    LeftoverTasksError,
    ReadOnlyViolationError,
    TooLargeError,
    TurnClosedError,
    TurnDeadlineError,
)
from loom.runtime import invocation

from .bank import Gate
from .place import Place, eventually, journal


class Things(msgspec.Struct):
    items: list[int] = []
    text: str = ""


GATES: dict[str, Gate] = {}
KEPT: list[Any] = []


def gate(name: str) -> Gate:
    return GATES.setdefault(name, Gate())


@pytest.fixture(autouse=True)
def _fresh() -> None:
    GATES.clear()
    KEPT.clear()


class Box(Actor[Things]):
    async def add(self, item: int) -> list[int]:
        self.state.items.append(item)
        return self.state.items

    async def add_and_fail(self, item: int) -> None:
        self.state.items.append(item)
        self.ctx.send(self.ctx.actor(Box, "other").add, item)
        self.ctx.remind("later", 0, self.add, item)
        raise ValueError("after all", item)

    async def add_slowly(self, item: int) -> int:
        self.state.items.append(item)
        await gate("slow").wait()
        return len(self.state.items)

    async def replace(self, items: list[int]) -> None:
        self.state = Things(items)

    async def spoil(self) -> None:
        self.state.items = ["text"]  # type: ignore[list-item]

    async def unserialisable_state(self) -> None:
        self.state.text = object()  # type: ignore[assignment]

    async def unserialisable(self) -> Any:
        self.state.items.append(1)
        return object()

    async def wrong_type(self) -> int:
        self.state.items.append(1)
        return "text"  # type: ignore[return-value]

    async def big(self, size: int) -> str:
        self.state.items.append(1)
        return "x" * size

    async def exit(self) -> None:
        self.state.items.append(1)
        raise SystemExit(3)

    async def cancels_itself(self) -> None:
        raise asyncio.CancelledError

    async def leaves_a_task(self) -> str:
        async def stray() -> None:
            with contextlib.suppress(BaseException):
                await asyncio.Event().wait()
            try:
                self.state.items.append(99)
            except TurnClosedError as error:
                KEPT.append(error)

        KEPT.append(asyncio.ensure_future(stray()))
        await asyncio.sleep(0)
        return "done"

    async def leaves_a_task_and_fails(self) -> None:
        await self.leaves_a_task()
        raise ValueError("and fails")

    async def keeps_self(self) -> None:
        KEPT.append(self)

    async def hang(self) -> None:
        self.state.items.append(1)
        await asyncio.Event().wait()

    async def hang_stubbornly(self) -> None:
        self.state.items.append(1)
        while not gate("stubborn").open.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate("stubborn").wait()

    async def turns_cancellation_into_an_error(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("mine") from None

    async def swallow_and_return(self) -> str:
        self.state.items.append(1)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "late"

    async def cache(self, value: int | None = None) -> int | None:
        if value is not None:
            self.cached = value
        return getattr(self, "cached", None)

    @read_only
    async def items(self) -> list[int]:
        return self.state.items

    @read_only
    async def read_slowly(self) -> list[int]:
        before = list(self.state.items)
        await gate("read").wait()
        assert self.state.items == before
        return before

    @read_only
    async def read_stubbornly(self) -> list[int]:
        while not gate("stubborn").open.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate("stubborn").wait()
        return self.state.items

    @read_only
    async def read_and_change(self) -> None:
        self.state.items.append(1)

    @read_only
    async def read_and_send(self) -> None:
        self.ctx.send(self.ctx.actor(Box, "b").add, 1)

    @read_only
    async def read_and_remind(self) -> None:
        self.ctx.remind("x", 1, self.add, 1)

    @read_only
    async def read_and_step(self) -> None:
        await self.ctx.step(len)("abc")


async def items(app: Loom, key: str = "b") -> list[int]:
    return await app.actor(Box, key).items()


async def test_a_failing_handler_changes_nothing(place: Place) -> None:
    app = await place.open(Box)
    await app.actor(Box, "b").add(1)
    with pytest.raises(ValueError, match="after all") as caught:
        await app.actor(Box, "b").add_and_fail(2)
    assert caught.value.args == ("after all", 2)
    assert await items(app) == [1]
    assert await items(app, "other") == []
    assert await app.actor(Box, "b").add(3) == [1, 3]
    assert (await journal(app).head("actor/Box/b")).seq == 2


async def test_the_state_can_be_replaced_as_a_whole(memory: Place) -> None:
    app = await memory.open(Box)
    await app.actor(Box, "b").replace([7])
    assert await items(app) == [7]


async def test_a_reader_runs_beside_a_turn_on_what_is_committed(place: Place) -> None:
    app = await place.open(Box)
    await app.actor(Box, "b").add(1)
    slow = asyncio.ensure_future(app.actor(Box, "b").add_slowly(2))
    await eventually(lambda: gate("slow").entered)
    assert await items(app) == [1]
    reader = asyncio.ensure_future(app.actor(Box, "b").read_slowly())
    await eventually(lambda: gate("read").entered)
    gate("slow").open.set()
    assert await slow == 2
    assert await items(app) == [1, 2]
    gate("read").open.set()
    assert await reader == [1]


@pytest.mark.parametrize("method", ["read_and_change", "read_and_send", "read_and_remind", "read_and_step"])
async def test_a_reader_that_has_effects_is_refused(memory: Place, method: str) -> None:
    app = await memory.open(Box)
    with pytest.raises(ReadOnlyViolationError):
        await getattr(app.actor(Box, "b"), method)()
    assert await items(app) == []
    assert (await journal(app).head("actor/Box/b")).seq == 0


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("unserialisable", InvalidResultError),
        ("wrong_type", InvalidResultError),
        ("spoil", InvalidResultError),
        ("exit", RuntimeError),
        ("cancels_itself", RuntimeError),
    ],
)
async def test_what_cannot_be_committed_fails_the_turn_and_only_that(
    place: Place, method: str, error: type[Exception]
) -> None:
    app = await place.open(Box)
    with pytest.raises(error):
        await getattr(app.actor(Box, "b"), method)()
    assert await app.actor(Box, "b").add(5) == [5]


async def test_a_state_that_cannot_be_stored_names_the_type(memory: Place) -> None:
    app = await memory.open(Box)
    with pytest.raises(Exception, match=r"builtins\.object can't be serialised"):
        await app.actor(Box, "b").unserialisable_state()
    assert await items(app) == []


async def test_an_oversized_result_is_refused_and_for_a_key_remembered(place: Place) -> None:
    app = await place.open(Box, options={"max_message_bytes": 1_000})
    for _ in range(2):
        with pytest.raises(TooLargeError):
            await app.actor(Box, "b", idempotency_key="k").big(2_000)
    assert await items(app) == []
    async with place.make(Box).client() as client:
        with pytest.raises(TooLargeError):
            await client.actor(Box, "b").big(2_000)


async def test_tasks_that_outlive_the_turn_fail_it(place: Place) -> None:
    app = await place.open(Box)
    with pytest.raises(LeftoverTasksError, match="stray"):
        await app.actor(Box, "b").leaves_a_task()
    task = KEPT[0]
    await asyncio.wait([task], timeout=10)
    assert isinstance(KEPT[1], TurnClosedError)
    assert await items(app) == []


async def test_tasks_of_a_turn_that_fails_are_cancelled_too(memory: Place) -> None:
    app = await memory.open(Box)
    with pytest.raises(ValueError, match="and fails"):
        await app.actor(Box, "b").leaves_a_task_and_fails()
    await asyncio.wait([KEPT[0]], timeout=10)
    assert KEPT[0].done()


async def test_a_turn_is_closed_when_it_has_ended(memory: Place) -> None:
    app = await memory.open(Box)
    await app.actor(Box, "b").keeps_self()
    [kept] = KEPT
    with pytest.raises(TurnClosedError):
        _ = kept.state
    with pytest.raises(TurnClosedError):
        kept.state = Things()
    with pytest.raises(TurnClosedError):
        kept.ctx.send(kept.ctx.actor(Box, "c").add, 1)
    with pytest.raises(TurnClosedError):
        await kept.ctx.actor(Box, "c").add(1)


@pytest.mark.parametrize("method", ["hang", "swallow_and_return"])
async def test_a_turn_ends_with_its_deadline(place: Place, method: str) -> None:
    app = await place.open(Box, options={"turn_deadline": 0.1})
    with pytest.raises(TurnDeadlineError, match=method):
        await getattr(app.actor(Box, "b"), method)()
    assert await items(app) == []
    assert await app.actor(Box, "b").add(1) == [1]
    with pytest.raises(RuntimeError, match="by itself"):
        await app.actor(Box, "b").cancels_itself()
    assert await app.actor(Box, "b").add(2) == [1, 2]


async def test_a_handler_may_say_what_its_deadline_means(memory: Place) -> None:
    app = await memory.open(Box, options={"turn_deadline": 0.1})
    with pytest.raises(KeyError, match="mine"):
        await app.actor(Box, "b").turns_cancellation_into_an_error()
    assert await app.actor(Box, "b").add(1) == [1]


@pytest.mark.parametrize("through_queue", [False, True])
async def test_a_handler_that_swallows_its_cancellation_is_left_behind(
    memory: Place, monkeypatch: pytest.MonkeyPatch, through_queue: bool
) -> None:
    monkeypatch.setattr(invocation, "_GRACE", 0.1)
    app = await memory.open(Box, options={"turn_deadline": 0.1})
    async with contextlib.AsyncExitStack() as stack:
        caller: Any = app
        if through_queue:
            caller = await stack.enter_async_context(memory.make(Box).client())
        call = asyncio.ensure_future(caller.actor(Box, "b", idempotency_key="k").hang_stubbornly())
        waiting = asyncio.ensure_future(caller.actor(Box, "b").add(5))
        with pytest.raises(TurnDeadlineError):
            await call
        assert await waiting == [5]
        assert app.host.turns_running == 0
        gate("stubborn").open.set()
        await asyncio.sleep(0.05)
        with pytest.raises(TurnDeadlineError):
            await caller.actor(Box, "b", idempotency_key="k").hang_stubbornly()
        assert await items(app) == [5]


async def test_a_reader_that_swallows_its_cancellation_does_not_harm_the_turn_beside_it(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "_GRACE", 0.1)
    app = await memory.open(Box, options={"turn_deadline": 5.0})
    reader = asyncio.ensure_future(app.actor(Box, "b").read_stubbornly())
    await eventually(lambda: gate("stubborn").entered)
    [cell] = app.host.cells.values()
    turn = asyncio.ensure_future(app.actor(Box, "b").add_slowly(1))
    await eventually(lambda: gate("slow").entered)
    reading = next(iter([t for t in _turns(app) if t.handler is not None and t.handler.read_only]))
    invocation.abandon(cell, reading)  # type: ignore[arg-type]
    with pytest.raises(TurnDeadlineError):
        await reader
    gate("slow").open.set()
    assert await turn == 1
    assert await items(app) == [1]
    gate("stubborn").open.set()


def _turns(app: Loom) -> list[Any]:
    import gc

    from loom.runtime.turn import Turn

    return [
        found for found in gc.get_objects() if isinstance(found, Turn) and not found.ended and found.job is not None
    ]


async def test_attributes_are_a_cache_of_the_activation(place: Place) -> None:
    app = await place.open(Box)
    assert await app.actor(Box, "b").cache(5) == 5
    assert await app.actor(Box, "b").cache() == 5
    await app.host.sweep()
    await place.close(app)
    again = await place.open(Box)
    assert await again.actor(Box, "b").cache() is None


async def test_a_caller_that_has_gone_is_not_served(memory: Place) -> None:
    app = await memory.open(Box)
    slow = asyncio.ensure_future(app.actor(Box, "b").add_slowly(1))
    await eventually(lambda: gate("slow").entered)
    gone = asyncio.ensure_future(app.actor(Box, "b").add(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    gate("slow").open.set()
    await slow
    assert await items(app) == [1]


async def test_turns_under_way_finish_when_the_host_stops_and_may_still_call(place: Place) -> None:
    class Caller(Actor[None]):
        async def go(self) -> list[int]:
            await gate("stop").wait()
            return await self.ctx.actor(Box, "b").add(1)

    app = await place.open(Box, Caller)
    call = asyncio.ensure_future(app.actor(Caller, "c").go())
    await eventually(lambda: gate("stop").entered)
    stopping = asyncio.ensure_future(place.close(app))
    await eventually(lambda: app.host.stopping)
    gate("stop").open.set()
    assert await call == [1]
    await stopping


async def test_a_turn_that_outlasts_the_drain_is_not_committed_and_its_caller_hears(memory: Place) -> None:
    app = await memory.open(Box, options={"drain_seconds": 0.05})
    call = asyncio.ensure_future(app.actor(Box, "b").add_slowly(1))
    await eventually(lambda: gate("slow").entered)
    await memory.close(app)
    with pytest.raises(Exception, match="nothing was committed"):
        await call
    again = await memory.open(Box)
    assert await items(again) == []
