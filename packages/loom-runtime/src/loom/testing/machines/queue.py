"""A MessageQueue against lists of messages, one list a group.

What a receive chooses among several groups is the adapter's business; the model checks that each choice was allowed,
and that a receive is empty only when nothing was. Of an adapter that does not declare ORDERED any choice of what is
ready is allowed; to one that does not declare DELAYED nothing is sent with a delay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ...clock import Clock
from ...plugins.spec import Feature
from ...ports.queue import Delivery, MessageQueue, OutgoingMessage, QueueDepth
from ..clock import ManualClock
from .base import AdapterMachine

__all__ = ["queue_machine"]

QUEUES = ("q", "q\x00")
# Mostly one queue and one group: what goes wrong needs several messages of both.
queues = st.sampled_from((QUEUES[0], *QUEUES))
groups = st.sampled_from(("g", "g", "h", ""))
picks = st.integers(0, 30)


@dataclasses.dataclass
class _Entry:
    message: OutgoingMessage
    place: float
    """Its rank in its group; infinite while a delayed send has none."""
    state: str = "ready"
    due: float = 0.0
    receipt: str = ""
    attempts: int = 0


class _QueueMachine(AdapterMachine[MessageQueue]):
    def __init__(self, connect: Callable[[Clock], MessageQueue], features: frozenset[Feature]) -> None:
        self.clock = ManualClock(start=1_000_000.0)
        self.ordered = Feature.ORDERED in features
        self.delayed = Feature.DELAYED in features
        super().__init__(lambda: connect(self.clock))
        self.entries: dict[tuple[str, str], _Entry] = {}
        self.dead: dict[tuple[str, str], _Entry] = {}
        self.finished: dict[tuple[str, str], float] = {}
        self.deliveries: list[Delivery] = []
        self.places = 0
        self.ids = 0

    def next_place(self) -> float:
        self.places += 1
        return float(self.places)

    def settle(self) -> None:
        """Let what is due become ready; delayed sends take their places in the order of their ends."""
        due = [entry for entry in self.entries.values() if entry.state != "ready" and entry.due <= self.clock.now()]
        for entry in sorted(due, key=lambda one: one.due):
            if entry.state == "planned":
                entry.place = self.next_place()
            entry.state, entry.receipt = "ready", ""

    def expired(self, entry: _Entry) -> bool:
        at = entry.message.expires_at
        return at is not None and at <= self.clock.now()

    def lane(self, queue: str, group: str) -> list[_Entry]:
        placed = [
            entry
            for entry in self.entries.values()
            if entry.message.queue == queue and entry.message.group == group and entry.state != "planned"
            and not (entry.state == "ready" and self.expired(entry))
        ]  # fmt: skip
        return sorted(placed, key=lambda entry: entry.place)

    def held(self, delivery: Delivery) -> _Entry | None:
        self.settle()
        entry = self.entries.get((delivery.queue, delivery.id))
        return entry if entry is not None and entry.receipt == delivery.receipt and entry.state == "leased" else None

    @rule(
        queue=queues, group=groups, delay=st.sampled_from([0.0, 0.0, 0.0, 5.0]),
        life=st.sampled_from([None, None, 8.0]), priority=st.integers(0, 2), old=st.one_of(st.none(), st.none(), picks),
    )  # fmt: skip
    def send(self, queue: str, group: str, delay: float, life: float | None, priority: int, old: int | None) -> None:
        self.settle()
        delay = delay if self.delayed else 0.0
        known = sorted(name for q, name in [*self.entries, *self.dead, *self.finished] if q == queue)
        repeat = known[old % len(known)] if old is not None and known else None
        self.ids += 1
        message = OutgoingMessage(
            queue=queue, id=repeat or f"m{self.ids}", body=b"%d" % self.ids, group=group, priority=priority,
            delay=delay, expires_at=None if life is None else self.clock.now() + life,
        )  # fmt: skip
        key = (queue, message.id)
        if key in self.entries and self.entries[key].state != "leased" and self.expired(self.entries[key]):
            return  # the queue may have dropped it or not, so either answer is right
        duplicate = key in self.entries or key in self.dead or self.finished.get(key, 0.0) > self.clock.now()
        assert self.run(self.adapter.send(message)) is not duplicate
        if not duplicate:
            planned = delay > 0
            self.entries[key] = _Entry(
                message, float("inf") if planned else self.next_place(), "planned" if planned else "ready",
                self.clock.now() + delay,
            )  # fmt: skip

    @rule(chosen=st.sampled_from([("q",), ("q\x00",), QUEUES]), limit=st.integers(1, 4))
    def receive(self, chosen: tuple[str, ...], limit: int) -> None:
        self.settle()
        received = self.run(self.adapter.receive(chosen, limit=limit, lease=10.0))
        assert len(received) <= limit
        assert len({(one.queue, one.id) for one in received}) == len(received)
        mine: set[tuple[str, str]] = set()
        for delivery in received:
            key = (delivery.queue, delivery.id)
            entry = self.entries[key]
            assert entry.state == "ready", f"{key} is {entry.state}"
            assert not self.expired(entry)
            assert (delivery.body, delivery.attempts) == (entry.message.body, entry.attempts)
            assert delivery.group == entry.message.group
            if delivery.group and self.ordered:
                before = [one for one in self.lane(*key[:1], delivery.group) if one.place < entry.place]
                assert all((one.message.queue, one.message.id) in mine for one in before), f"{key} passed {before}"
            mine.add(key)
        for delivery in received:
            entry = self.entries[(delivery.queue, delivery.id)]
            entry.state, entry.due, entry.receipt = "leased", delivery.lease_until, delivery.receipt
            assert delivery.lease_until == self.clock.now() + 10.0
        self.deliveries += received
        if not received:
            assert not self.receivable(chosen)

    def receivable(self, chosen: tuple[str, ...]) -> list[_Entry]:
        alone = [e for e in self.entries.values() if not e.message.group and e.state == "ready" and not self.expired(e)]
        lanes = [self.lane(queue, group) for queue in chosen for group in ("g", "h")]
        # Where nothing is promised of order a queue may still hold back a group of which something is under way.
        idle = [lane for lane in lanes if self.ordered or all(entry.state == "ready" for entry in lane)]
        first = [lane[0] for lane in idle if lane and lane[0].state == "ready"]
        return [entry for entry in alone + first if entry.message.queue in chosen]

    @rule(pick=picks, what=st.sampled_from(["ack", "begin", "extend", "nack", "nack later", "dead"]))
    def act(self, pick: int, what: str) -> None:
        if not self.deliveries:
            return
        delivery = self.deliveries[-1 - pick % len(self.deliveries)]
        key, now, entry = (delivery.queue, delivery.id), self.clock.now(), self.held(delivery)
        calls: dict[str, Callable[[], Coroutine[Any, Any, bool | list[bool]]]] = {
            "ack": lambda: self.adapter.ack([delivery]),
            "begin": lambda: self.adapter.begin([delivery]),
            "extend": lambda: self.adapter.extend([delivery], 20.0),
            "nack": lambda: self.adapter.nack(delivery),
            "nack later": lambda: self.adapter.nack(delivery, delay=6.0),
            "dead": lambda: self.adapter.dead_letter(delivery, what),
        }
        outcome = self.run(calls[what]())
        assert outcome in (entry is not None, [entry is not None])
        if entry is None:
            return
        match what:
            case "ack":
                del self.entries[key]
                self.finished[key] = now + self.adapter.dedupe_window
            case "begin":
                entry.attempts += 1
            case "extend":
                entry.due = now + 20.0
            case "nack":
                entry.state, entry.receipt = "ready", ""
            case "nack later":
                entry.state, entry.receipt, entry.due = "returned", "", now + 6.0
            case _:
                self.dead[key] = self.entries.pop(key)

    @rule(queue=queues, pick=picks)
    def redrive(self, queue: str, pick: int) -> None:
        self.settle()
        names = sorted(name for q, name in self.dead if q == queue)
        name = names[pick % len(names)] if names else "nothing"
        assert self.run(self.adapter.redrive(queue, [name, "never"])) == [bool(names), False]
        if names:
            entry = self.dead.pop((queue, name))
            message = entry.message
            new = OutgoingMessage(
                queue=queue, id=name, body=message.body, group=message.group, priority=message.priority
            )
            self.entries[(queue, name)] = _Entry(new, self.next_place())

    @rule(queue=queues, pick=picks)
    def discard(self, queue: str, pick: int) -> None:
        names = sorted(name for q, name in self.dead if q == queue)
        if names:
            name = names[pick % len(names)]
            assert self.run(self.adapter.discard(queue, [name])) == [True]
            del self.dead[(queue, name)]

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_counts_agree(self) -> None:
        self.settle()
        for queue in QUEUES:
            entries = [entry for entry in self.entries.values() if entry.message.queue == queue]
            # The queue may drop expired ones when it likes, so those say nothing about the counts.
            living = [entry.state for entry in entries if entry.state == "leased" or not self.expired(entry)]
            stale = len(entries) - len(living)
            depth = self.run(self.adapter.depth(queue))
            least = QueueDepth(
                ready=living.count("ready"), delayed=living.count("planned") + living.count("returned"),
                leased=living.count("leased"), dead=sum(q == queue for q, _ in self.dead),
            )  # fmt: skip
            assert (depth.leased, depth.dead) == (least.leased, least.dead)
            assert least.ready <= depth.ready <= least.ready + stale
            assert least.delayed <= depth.delayed <= least.delayed + stale
            letters = self.run(self.adapter.dead_letters(queue))
            assert [one.id for one in letters] == sorted(name for q, name in self.dead if q == queue)


def queue_machine(
    connect: Callable[[Clock], MessageQueue],
    features: frozenset[Feature] = frozenset({Feature.ORDERED, Feature.DELAYED}),
) -> type[RuleBasedStateMachine]:
    """A machine for adapters that ``connect(clock)`` builds, unstarted and each over empty data.

    ``features`` are those that the adapter declares.
    """

    class QueueMachine(_QueueMachine):
        def __init__(self) -> None:
            super().__init__(connect, features)

    return QueueMachine
