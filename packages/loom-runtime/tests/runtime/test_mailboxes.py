"""Mailboxes: bounded, in order, and fair. What is poison is only called so after it has run alone."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from loom import Actor, Loom, read_only
from loom.errors import OverloadedError
from loom.runtime.messages import Kind, mailbox_queue, shard_of

from .bank import Account, Gate
from .place import SHARDS, Place, dead_letters, eventually, queue
from .test_dedupe import drained, request, send

GATES: dict[str, Gate] = {}
FAILURES: dict[str, int] = {}
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    GATES.clear()
    FAILURES.clear()
    RAN.clear()


class Notes(msgspec.Struct):
    texts: list[str] = []


class Desk(Actor[Notes]):
    async def hold(self) -> None:
        await GATES.setdefault(self.key, Gate()).wait()

    async def note(self, text: str) -> int:
        RAN.append(text)
        if FAILURES.get(text, 0) > 0:
            FAILURES[text] -= 1
            raise ValueError(text)
        self.state.texts.append(text)
        return len(self.state.texts)

    async def tell(self, target: str, texts: list[str]) -> None:
        for text in texts:
            self.ctx.send(self.ctx.actor(Desk, target).note, text)

    @read_only
    async def texts(self) -> list[str]:
        return self.state.texts


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loom.runtime.outcomes.FIRST_RETRY", 0.01)
    monkeypatch.setattr("loom.runtime.outcomes._LONGEST_RETRY", 0.02)


async def held(app: Loom, key: str) -> asyncio.Future[None]:
    call = asyncio.ensure_future(app.actor(Desk, key).hold())
    await eventually(lambda: key in GATES and GATES[key].entered)
    return call


async def test_a_full_mailbox_refuses_calls_and_runs_none_of_them(place: Place) -> None:
    app = await place.open(Desk, options={"mailbox_limit": 3})
    holding = await held(app, "d")
    waiting = [asyncio.ensure_future(app.actor(Desk, "d").note(str(n))) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="nothing was run"):
        await app.actor(Desk, "d").note("refused")
    async with place.make(Desk).client() as client:
        with pytest.raises(OverloadedError):
            await client.actor(Desk, "d").note("refused")
    GATES["d"].open.set()
    await holding
    assert await asyncio.gather(*waiting) == [1, 2, 3]
    assert await app.actor(Desk, "d").texts() == ["0", "1", "2"]


async def test_sends_beyond_the_limit_are_parked_in_their_order(place: Place) -> None:
    app = await place.open(Desk, options={"mailbox_limit": 3})
    holding = await held(app, "d")
    texts = [str(n) for n in range(12)]
    await app.actor(Desk, "from").tell("d", texts)
    await asyncio.sleep(0.05)
    GATES["d"].open.set()
    await holding

    async def there() -> bool:
        return len(await app.actor(Desk, "d").texts()) == 12

    await eventually(there)
    assert await app.actor(Desk, "d").texts() == texts
    assert await dead_letters(app) == []


async def test_calls_of_one_caller_run_in_their_order(place: Place) -> None:
    app = await place.open(Desk)
    calls = [asyncio.ensure_future(app.actor(Desk, "d").note(str(n))) for n in range(50)]
    assert await asyncio.gather(*calls) == list(range(1, 51))
    async with place.make(Desk).client() as client:
        calls = [asyncio.ensure_future(client.actor(Desk, "e").note(str(n))) for n in range(50)]
        assert await asyncio.gather(*calls) == list(range(1, 51))
    assert await app.actor(Desk, "e").texts() == [str(n) for n in range(50)]


async def test_a_slow_actor_does_not_hold_up_its_shard(place: Place) -> None:
    app = await place.open(Desk)
    holding = await held(app, "slow")
    shard = shard_of("actor/Desk/slow", SHARDS)
    neighbour = next(f"n{n}" for n in range(1000) if shard_of(f"actor/Desk/n{n}", SHARDS) == shard)
    async with place.make(Desk).client() as client:
        behind = [asyncio.ensure_future(client.actor(Desk, "slow").note(str(n))) for n in range(20)]
        assert await client.actor(Desk, neighbour).note("quick") == 1
        GATES["slow"].open.set()
        await asyncio.gather(holding, *behind)


async def test_a_failed_send_is_tried_again_before_those_behind_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    FAILURES["1"] = 2
    app = await place.open(Desk)
    await app.actor(Desk, "from").tell("d", ["0", "1", "2", "3"])

    async def there() -> bool:
        return len(await app.actor(Desk, "d").texts()) == 4

    await eventually(there)
    assert await app.actor(Desk, "d").texts() == ["0", "1", "2", "3"]
    assert RAN == ["0", "1", "1", "1", "2", "3"]


async def test_a_send_that_always_fails_becomes_a_dead_letter_and_the_rest_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    FAILURES["bad"] = 100
    app = await place.open(Desk, options={"max_attempts": 3})
    await app.actor(Desk, "from").tell("d", ["bad", "good"])

    async def there() -> bool:
        return bool(await app.actor(Desk, "d").texts())

    await eventually(there)
    assert RAN == ["bad", "bad", "bad", "good"]
    [dead] = await dead_letters(app)
    assert "3 attempts failed" in dead.reason
    assert "ValueError('bad')" in dead.reason


async def test_failures_survive_a_restart_and_are_not_taken_for_crashes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four attempts that were reported as failed are not four crashes, whoever reads the message next."""
    quick(monkeypatch)
    FAILURES["bad"] = 4
    app = await place.open(Desk, options={"max_attempts": 50})
    inner = app.host.inbox.retry
    stopped = asyncio.Event()

    async def retry(delivery: Any, delay: float) -> None:
        await inner(delivery, 3600.0 if len(RAN) >= 4 else delay)
        if len(RAN) >= 4:
            stopped.set()

    monkeypatch.setattr(app.host.inbox, "retry", retry)
    await app.actor(Desk, "from").tell("d", ["bad"])
    await asyncio.wait_for(stopped.wait(), 20)
    await _ready_now(app)
    await place.close(app)
    again = await place.open(Desk)

    async def there() -> bool:
        return bool(await again.actor(Desk, "d").texts())

    await eventually(there)
    assert await dead_letters(again) == []


async def _ready_now(app: Loom) -> None:
    port: Any = queue(app)
    if hasattr(port, "_world"):
        for lane in port._world.queues.values():
            for message in lane.messages.values():
                if message.due > app.host.clock.now() + 100:
                    lane.set_due(message, app.host.clock.now())
    else:
        await port._database.write(lambda c: c.execute("UPDATE queue_messages SET due = 0 WHERE state = 2") and None)


async def begun_and_left(place: Place, times: int) -> None:
    """A message that hosts began ``times`` times and never settled, as if each had crashed over it."""
    app = await place.open(Desk)
    name = mailbox_queue(shard_of("actor/Desk/d", SHARDS))
    message = request(app, "m", "note", "suspect", kind=Kind.SEND, expires_at=app.host.clock.now() + 3_600.0)
    message.stream = "actor/Desk/d"
    await place.crash(app)
    app = place.make(Desk)
    store = await place.open()  # a host without the code: only for its queue
    await store.host.inbox.stop()
    await send(store, message)
    for _ in range(times):
        [delivery] = await queue(store).receive([name], limit=1, wait=10.0)
        assert (await queue(store).begin([delivery])) == [True]
        await place.expire_leases(store)
    await place.crash(store)


async def test_a_message_begun_by_crashed_hosts_runs_alone_before_it_is_called_poison(place: Place) -> None:
    await begun_and_left(place, 7)
    app = await place.open(Desk)
    await drained(app)
    assert await app.actor(Desk, "d").texts() == ["suspect"]
    assert await dead_letters(app) == []


async def test_it_runs_with_nothing_beside_it(place: Place) -> None:
    await begun_and_left(place, 1)
    seen: list[int] = []

    class Watched(Desk):
        __loom_type__ = None  # of its own

    app = place.make(Desk)
    await app.__aenter__()
    place.apps.append(app)
    inner = app.host.exclusive.enter

    async def enter(job: Any) -> None:
        await inner(job)
        seen.append(app.host.turns_running)

    app.host.exclusive.enter = enter  # type: ignore[method-assign]
    calls = [asyncio.ensure_future(app.actor(Desk, f"x{n}").note(f"x{n}")) for n in range(20)]
    await drained(app)
    await asyncio.gather(*calls)
    assert await app.actor(Desk, "d").texts() == ["suspect"]
    assert not app.host.exclusive.busy
    assert all(count == 0 for count in seen)


async def test_what_crashes_its_host_alone_becomes_a_dead_letter(place: Place) -> None:
    await begun_and_left(place, 1)
    for _ in range(3):
        crashing = await place.open(Desk, options={"crash_attempts": 3})
        started = asyncio.Event()
        cell_turn = crashing.host.steps  # the handler must not end: stop the host within may_start's yes
        del cell_turn
        original = crashing.host.may_start

        async def may_start(job: Any, original: Any = original, started: asyncio.Event = started) -> bool:
            if await original(job):
                started.set()
                await asyncio.Event().wait()
            return False

        crashing.host.may_start = may_start  # type: ignore[method-assign]
        await place.expire_leases(crashing)
        await asyncio.wait_for(started.wait(), 20)
        await place.crash(crashing)
    app = await place.open(Desk, options={"crash_attempts": 3})
    await place.expire_leases(app)
    found = await eventually(lambda: dead_letters(app))
    assert "3 attempts alone" in found[0].reason
    assert await app.actor(Desk, "d").texts() == []


async def test_a_redelivered_request_that_was_answered_opens_the_door_again(place: Place) -> None:
    """Suspicious and answered from the journal: it must not close the host for everybody else."""
    first = await place.open(Account)
    first.host.inbox.settle = lambda job, reply: None  # type: ignore[method-assign]
    async with place.make(Account).client() as client:
        call = asyncio.ensure_future(client.actor(Account, "a").deposit(5))

        async def committed() -> bool:
            return (await first.host.journal.head("actor/Account/a")).seq == 1

        await eventually(committed)
        await place.crash(first)
        second = await place.open(Account)
        await place.expire_leases(second)
        assert await call == 5
        assert not second.host.exclusive.busy
        assert await asyncio.wait_for(second.actor(Account, "b").deposit(1), 10) == 1
        assert await asyncio.wait_for(client.actor(Account, "c").deposit(1), 10) == 1


async def test_a_call_to_an_unknown_type_or_method_is_answered(place: Place) -> None:
    from loom.errors import UnknownActorError, UnknownMethodError

    app = await place.open(Account)
    async with place.make(Account).client() as client:
        for caller in (client, app.calls):
            with pytest.raises(UnknownActorError, match="this host serves: Account"):
                await caller.call("Nobody", "x", "deposit", 1)
            with pytest.raises(UnknownMethodError, match="deposit"):
                await caller.call("Account", "x", "steal", 1)


async def test_an_unreadable_message_becomes_a_dead_letter_and_stops_nobody(place: Place) -> None:
    from loom.ports import OutgoingMessage

    app = await place.open(Account)
    name = mailbox_queue(shard_of("actor/Account/a", SHARDS))
    await queue(app).send(OutgoingMessage(queue=name, id="junk", body=b"\xc1junk", group="actor/Account/a"))
    found = await eventually(lambda: dead_letters(app))
    assert "can't be read" in found[0].reason
    async with place.make(Account).client() as client:
        assert await client.actor(Account, "a").deposit(1) == 1
