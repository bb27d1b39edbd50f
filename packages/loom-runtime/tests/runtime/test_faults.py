"""The faults themselves: planned ones happen, seeds repeat, and a calm plan changes nothing."""

from __future__ import annotations

import pytest

from loom.adapters.memory.documents import InMemoryDocumentStore
from loom.adapters.memory.journal import InMemoryJournalStore
from loom.adapters.memory.queue import InMemoryMessageQueue
from loom.errors import StoreUnavailableError
from loom.ports import Append, DocumentStore, JournalStore, MessageQueue, OutgoingMessage
from loom.testing.faults import Fault, FaultPlan, Faulty


def entry(n: int) -> Append:
    return Append("s", n, f"e{n}" if n else "", f"e{n + 1}", b"x")


async def test_each_fault_does_what_it_says() -> None:
    plan = FaultPlan()
    store = Faulty(InMemoryJournalStore(), plan)
    assert isinstance(store, JournalStore)
    plan.at("append_many", 1, Fault.REFUSED)
    with pytest.raises(StoreUnavailableError) as refused:
        await store.append(entry(0))
    assert not refused.value.unknown
    plan.at("append_many", 1, Fault.LOST_REQUEST)
    with pytest.raises(StoreUnavailableError) as lost:
        await store.append(entry(0))
    assert lost.value.unknown
    assert (await store.head("s")).seq == 0
    plan.at("append_many", 1, Fault.LOST_ACK)
    with pytest.raises(StoreUnavailableError) as unheard:
        await store.append(entry(0))
    assert unheard.value.unknown
    assert (await store.append(entry(0))).duplicate
    plan.at("append_many", 1, Fault.DUPLICATE)
    assert not (await store.append(entry(1))).duplicate
    assert (await store.head("s")).seq == 2
    plan.at("append_many", 1, Fault.DELAY)
    assert (await store.append(entry(2))).seq == 3
    plan.at("heads", 1, Fault.STALE)
    assert (await store.head("s")).seq == 0  # what it was when it was read first
    assert [fault for _, fault in plan.happened] == [
        Fault.REFUSED, Fault.LOST_REQUEST, Fault.LOST_ACK, Fault.DUPLICATE, Fault.DELAY, Fault.STALE,
    ]  # fmt: skip
    assert plan.count("append_many") == 6


async def test_the_dice_repeat_and_can_be_limited() -> None:
    async def run(seed: int, limit: int | None = None) -> list[tuple[str, Fault]]:
        plan = FaultPlan(seed, rate=0.5, limit=limit)
        queue = Faulty(InMemoryMessageQueue(), plan)
        assert isinstance(queue, MessageQueue)
        for number in range(50):
            try:
                await queue.send(OutgoingMessage(queue="q", id=str(number), body=b""))
            except StoreUnavailableError:
                continue
        return plan.happened

    assert await run(1) == await run(1)
    assert await run(1) != await run(2)
    assert len(await run(1, limit=3)) == 3


async def test_calm_and_settings() -> None:
    plan = FaultPlan(rate=1.0)
    documents = Faulty(InMemoryDocumentStore(), plan)
    assert isinstance(documents, DocumentStore)
    plan.calm()
    async with documents:
        assert plan.happened == []
    assert Faulty(InMemoryMessageQueue(dedupe_window=7.0), plan).dedupe_window == 7.0
