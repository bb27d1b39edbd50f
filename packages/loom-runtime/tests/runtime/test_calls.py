"""Calls between actors: cycles end at once, crossed waits end with the deadline and name both waiters."""

from __future__ import annotations

import asyncio

import pytest

from loom import Actor, read_only
from loom.errors import CallCycleError, LoomError, OutcomeUnknownError, TurnDeadlineError

from .bank import Account, Gate, Refused
from .place import SHARDS, Place, eventually, journal
from .test_two_hosts import keys_of, settled

GATES: dict[str, Gate] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    GATES.clear()


class Node(Actor[None]):
    async def chain(self, path: list[str]) -> str:
        if not path:
            return self.key
        return self.key + await self.ctx.actor(Node, path[0]).chain(path[1:])

    async def chain_patiently(self, path: list[str]) -> str:
        try:
            return await self.chain(path)
        except CallCycleError as error:
            return f"caught {len(error.chain)}"  # type: ignore[attr-defined]

    async def cross(self, other: str) -> str:
        gate = GATES.setdefault("cross", Gate())
        gate.entered += 1
        while gate.entered < 2:
            await asyncio.sleep(0.001)
        return await self.ctx.actor(Node, other).name()

    async def name(self) -> str:
        return self.key

    async def many(self, keys: list[str]) -> list[str]:
        return list(await asyncio.gather(*(self.ctx.actor(Node, key).name() for key in keys)))

    async def keyed(self, target: str, amount: int) -> int:
        return await self.ctx.actor(Account, target, idempotency_key="from a turn").deposit(amount)

    async def withdraw(self, target: str, amount: int) -> int:
        return await self.ctx.actor(Account, target).withdraw(amount)

    @read_only
    async def look(self, target: str) -> int:
        return await self.ctx.actor(Account, target).balance()


async def test_calls_nest(place: Place) -> None:
    app = await place.open(Node, Account)
    assert await app.actor(Node, "a").chain(["b", "c", "d"]) == "abcd"
    assert await app.actor(Node, "a").many(["b", "c", "b", "d"]) == ["b", "c", "b", "d"]
    assert await app.actor(Account, "x").deposit(4) == 4
    assert await app.actor(Node, "a").look("x") == 4
    with pytest.raises(Refused):
        await app.actor(Node, "a").withdraw("x", 5)


@pytest.mark.parametrize("path", [["a"], ["b", "a"], ["b", "c", "b"]])
async def test_a_cycle_ends_at_once(place: Place, path: list[str]) -> None:
    app = await place.open(Node)
    with pytest.raises(CallCycleError, match=r"ctx\.send"):
        await app.actor(Node, "a").chain(path)


async def test_a_cycle_over_two_hosts_ends_at_once(place: Place) -> None:
    one, two = await place.open(Node), await place.open(Node)
    await eventually(
        lambda: len(one.host.placement.epochs) + len(two.host.placement.epochs) == SHARDS and two.host.placement.epochs
    )
    path = [f"n{n}" for n in range(12)]
    with pytest.raises(CallCycleError):
        await one.actor(Node, "start").chain([*path, "start"])


async def test_a_handler_may_catch_the_cycle(memory: Place) -> None:
    app = await memory.open(Node)
    assert await app.actor(Node, "a").chain_patiently(["b", "a"]) == "caught 3"


async def test_crossed_waits_end_with_both_waiters_named(memory: Place) -> None:
    app = await memory.open(Node, options={"turn_deadline": 0.3})
    crossing = [app.actor(Node, "a").cross("b"), app.actor(Node, "b").cross("a")]
    results = await asyncio.gather(*crossing, return_exceptions=True)
    errors = [result for result in results if isinstance(result, TurnDeadlineError)]
    assert errors, results
    texts = [str(error) for error in errors]
    assert any(
        "actor/Node/a.cross" in text and "actor/Node/b" in text and "each waits for the other" in text for text in texts
    )
    assert await app.actor(Node, "a").name() == "a"
    assert (await journal(app).head("actor/Node/b")).seq <= 2


async def test_a_call_ends_with_the_turns_deadline_where_nobody_answers(memory: Place) -> None:
    class Silent(Actor[None]):
        async def wait(self) -> None:
            await GATES.setdefault("silent", Gate()).wait()

    class Asks(Actor[None]):
        turn_deadline = 0.2

        async def ask(self) -> None:
            await self.ctx.actor(Silent, "s").wait()

    app = await memory.open(Silent, Asks)
    with pytest.raises(TurnDeadlineError, match=r"waiting for actor/Silent/s\.wait"):
        await app.actor(Asks, "a").ask()
    GATES["silent"].open.set()


async def test_a_client_stops_waiting_and_says_that_it_does_not_know(memory: Place) -> None:
    class Silent(Actor[None]):
        async def wait(self) -> str:
            await GATES.setdefault("silent", Gate()).wait()
            return "done"

    app = await memory.open(Silent, options={"call_timeout": 0.2})
    with pytest.raises(OutcomeUnknownError) as caught:
        await app.actor(Silent, "s", idempotency_key="k").wait()
    assert caught.value.request_id == "key/wait/k"
    GATES["silent"].open.set()
    assert await app.actor(Silent, "s", idempotency_key="k").wait() == "done"


async def test_a_keyed_call_from_a_turn_takes_effect_once(place: Place) -> None:
    app = await place.open(Node, Account)
    for node in ("a", "b", "a"):
        assert await app.actor(Node, node).keyed("x", 5) == 5
    with pytest.raises(LoomError, match="other arguments"):
        await app.actor(Node, "c").keyed("x", 6)
    assert await app.actor(Account, "x").balance() == 5


async def test_nested_calls_and_sends_cross_hosts(place: Place) -> None:
    one, two = await place.open(Node, Account), await place.open(Node, Account)
    await settled(one, two)
    here, there = keys_of(one, 3, "h"), keys_of(two, 3, "t")
    for source, target in [*zip(here, there, strict=False), *zip(there, here, strict=False)]:
        await one.actor(Account, source).call_deposit(target, 5)
        await two.actor(Account, source).pay(target, 5)

    async def money() -> bool:
        keys = {*here, *there} if here and there else set()
        return sum([await one.actor(Account, key).balance() for key in keys]) == 5 * 2 * min(len(here), len(there))

    await eventually(money)
