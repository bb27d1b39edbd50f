"""A request id is answered from the journal as long as the request may come again; an expired one is never run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from loom import Loom
from loom.codec import encode
from loom.errors import CallError, IdempotencyConflictError, InvalidKeyError, MessageExpiredError, TooLargeError
from loom.runtime.messages import Kind, Message, reply_queue
from loom.runtime.outbox import envelope

from .bank import Account, Refused
from .place import SHARDS, Place, dead_letters, eventually, journal, queue


def request(
    app: Loom, id: str, method: str, *args: Any, key: str = "a", kind: Kind = Kind.CALL, **more: Any
) -> Message:
    now = app.host.clock.now()
    values: dict[str, Any] = {"sent_at": now, "expires_at": now + 30.0, **more}
    return Message(id=id, kind=kind, stream=f"actor/Account/{key}", method=method, args=encode(list(args)), **values)


async def send(app: Loom, message: Message, as_id: str = "") -> None:
    """Queue it under an id of its own, as a redelivery or a repeated attempt would come."""
    message.ticket = as_id
    await queue(app).send(envelope(message, SHARDS, app.host.codecs, app.host.clock.now()))


async def balance(app: Loom, key: str = "a") -> int:
    return await app.actor(Account, key).balance()


async def drained(app: Loom) -> None:
    async def empty() -> bool:
        depths = [await queue(app).depth(name) for name in await queue(app).queues() if name.startswith("loom/shard")]
        return all(depth.ready + depth.delayed + depth.leased == 0 for depth in depths)

    await eventually(empty, "an empty queue")


async def test_a_redelivered_message_is_answered_and_not_run(place: Place) -> None:
    app = await place.open(Account)
    for attempt in ("1", "2", "3"):
        await send(app, request(app, "once", "deposit", 5, reply_to="loom/reply/x"), attempt)
    await drained(app)
    assert await balance(app) == 5
    replies = await queue(app).receive(["loom/reply/x"], limit=10)
    assert len(replies) == 3


async def test_it_is_known_after_snapshot_trim_and_restart(place: Place) -> None:
    place.options |= {"snapshot_every": 3, "retain_entries": 1}
    app = await place.open(Account)
    await send(app, request(app, "once", "deposit", 5, expires_at=app.host.clock.now() + 3_600.0), "1")
    await drained(app)
    for _ in range(7):
        await app.actor(Account, "a").deposit(1)
    head = await journal(app).head("actor/Account/a")
    assert head.snapshot_seq > 3
    assert (await journal(app).read("actor/Account/a", after=head.snapshot_seq - 1)) != []
    await send(app, request(app, "once", "deposit", 5), "2")
    await drained(app)
    assert await balance(app) == 12
    await place.close(app)
    again = await place.open(Account)
    await send(again, request(again, "once", "deposit", 5), "3")
    await drained(again)
    assert await balance(again) == 12


async def test_an_expired_call_is_refused_and_an_expired_send_becomes_a_dead_letter(place: Place) -> None:
    app = await place.open(Account)
    past = app.host.clock.now() - 1.0
    await send(app, request(app, "late", "deposit", 5, expires_at=past, reply_to=reply_queue("me")), "1")
    await send(app, request(app, "late2", "deposit", 5, kind=Kind.SEND, expires_at=past), "2")
    await drained(app)
    assert await balance(app) == 0
    [dead] = await dead_letters(app)
    assert "expired" in dead.reason
    [reply] = await queue(app).receive([reply_queue("me")], limit=10, wait=5.0)
    assert b"MessageExpiredError" in reply.body


async def test_a_local_call_that_waited_beyond_its_life_is_refused(memory: Place) -> None:
    app = await memory.open(Account)
    message = request(app, "late", "deposit", 5, expires_at=app.host.clock.now() - 1.0)
    reply = await app.host.router.call(message, timeout=5.0)
    assert reply.error is not None
    assert reply.error.name == MessageExpiredError.__name__


async def test_the_id_of_an_answered_request_outlives_a_turn_that_ended_after_its_expiry(memory: Place) -> None:
    clock = memory.manual()
    app = await memory.open(Account, options={"snapshot_every": 1})
    message = request(app, "slow", "deposit", 5, expires_at=clock.now() + 1.0)
    await send(app, message, "1")
    await eventually(lambda: _advance(clock, 0.0) and _deposited(app, 5))
    clock.advance(2.0)
    await app.actor(Account, "a").deposit(0)
    await send(app, request(app, "slow", "deposit", 5, expires_at=message.expires_at), "2")
    await eventually(lambda: _advance(clock, 0.1) and _empty(app))
    assert await balance(app) == 5
    assert await dead_letters(app) == []


def _advance(clock: Any, seconds: float) -> bool:
    clock.advance(seconds)
    return True


async def _deposited(app: Loom, amount: int) -> bool:
    return await balance(app) == amount


async def _empty(app: Loom) -> bool:
    depths = [await queue(app).depth(name) for name in await queue(app).queues() if name.startswith("loom/shard")]
    return all(depth.ready + depth.delayed + depth.leased == 0 for depth in depths)


async def test_an_idempotency_key_runs_once_locally_and_through_the_queue(place: Place) -> None:
    app = await place.open(Account)
    assert await app.actor(Account, "a", idempotency_key="k").deposit(5) == 5
    assert await app.actor(Account, "a").deposit(1) == 6
    assert await app.actor(Account, "a", idempotency_key="k").deposit(5) == 5
    async with place.make(Account).client() as client:
        assert await client.actor(Account, "a", idempotency_key="k").deposit(5) == 5
        assert await client.actor(Account, "a", idempotency_key="k2").deposit(5) == 11
        assert await client.actor(Account, "a", idempotency_key="k2").deposit(5) == 11
    assert await balance(app) == 11


async def test_one_key_for_two_actors_is_two_requests(place: Place) -> None:
    """Actors of one shard share a queue, and one client waits for both replies."""
    await place.open(Account)
    keys = [f"account-{n}" for n in range(3 * SHARDS)]
    async with place.make(Account).client() as client:
        calls = [client.actor(Account, key, idempotency_key="same").deposit(n) for n, key in enumerate(keys)]
        assert await asyncio.gather(*calls) == list(range(len(keys)))
        again = [client.actor(Account, key, idempotency_key="same").deposit(n) for n, key in enumerate(keys)]
        assert await asyncio.gather(*again) == list(range(len(keys)))


async def test_concurrent_repeats_of_one_key_get_the_same_answer(place: Place) -> None:
    app = await place.open(Account)
    async with place.make(Account).client() as client:
        callers: list[Any] = [client, app, client, app, client]
        calls = [caller.actor(Account, "a", idempotency_key="k").deposit(5) for caller in callers]
        assert await asyncio.gather(*calls) == [5] * 5
    assert await balance(app) == 5


async def test_cancelling_one_of_two_callers_with_a_key_leaves_the_other(place: Place) -> None:
    await place.open(Account)
    async with place.make(Account).client() as client:
        first = asyncio.ensure_future(client.actor(Account, "a", idempotency_key="k").deposit(5))
        second = asyncio.ensure_future(client.actor(Account, "a", idempotency_key="k").deposit(5))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 5


async def test_the_same_key_with_other_arguments_is_refused(place: Place) -> None:
    app = await place.open(Account)
    await app.actor(Account, "a", idempotency_key="tx/1").deposit(5)
    with pytest.raises(IdempotencyConflictError, match="'tx/1' was used with other arguments"):
        await app.actor(Account, "a", idempotency_key="tx/1").deposit(6)
    assert await app.actor(Account, "a", idempotency_key="tx/1").withdraw(5) == 0  # another method, another scope


async def test_a_reference_with_a_key_serves_one_call(memory: Place) -> None:
    app = await memory.open(Account)
    once = app.actor(Account, "a", idempotency_key="k")
    await once.deposit(1)
    with pytest.raises(CallError, match="was used already"):
        await once.deposit(1)


@pytest.mark.parametrize("key", ["", 7])
async def test_an_idempotency_key_is_text(memory: Place, key: Any) -> None:
    app = await memory.open(Account)
    with pytest.raises(InvalidKeyError):
        app.actor(Account, "a", idempotency_key=key)


async def test_a_failure_is_remembered_for_keyed_calls(place: Place) -> None:
    app = await place.open(Account)
    with pytest.raises(Refused):
        await app.actor(Account, "a", idempotency_key="k").withdraw(5)
    await app.actor(Account, "a").deposit(10)
    with pytest.raises(Refused):
        await app.actor(Account, "a", idempotency_key="k").withdraw(5)
    await place.close(app)
    again = await place.open(Account)
    with pytest.raises(Refused):
        await again.actor(Account, "a", idempotency_key="k").withdraw(5)
    assert await balance(again) == 10
    assert await again.actor(Account, "a", idempotency_key="k2").withdraw(5) == 5


async def test_a_nested_call_with_the_turn_run_again_is_answered(place: Place) -> None:
    """The same request again: the outer actor answers from its journal, and were it to run, the inner one would."""
    app = await place.open(Account)
    for attempt in ("1", "2"):
        await send(app, request(app, "outer", "call_deposit", "b", 5), attempt)
    await drained(app)
    assert await balance(app, "b") == 5


async def test_oversized_arguments_are_refused_before_they_travel(memory: Place) -> None:
    app = await memory.open(Account, options={"max_message_bytes": 1_000})
    with pytest.raises(TooLargeError):
        await app.actor(Account, "a").note("x" * 2_000)
    with pytest.raises(TooLargeError):
        await app.actor(Account, "a").tell("b", texts=["x" * 2_000])
    assert await app.actor(Account, "a").notes() == []
