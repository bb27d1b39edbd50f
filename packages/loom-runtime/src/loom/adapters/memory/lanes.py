"""One queue of the in-memory MessageQueue: its lanes, leases, delays, dead letters and finished ids."""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator

from ...ports.queue import DeadLetter, Delivery, OutgoingMessage, QueueDepth

__all__ = ["DeadMessage", "LaneQueue", "Message"]


class State(enum.Enum):
    READY = enum.auto()  # though perhaps behind another of its lane
    LEASED = enum.auto()  # until due
    RETURNED = enum.auto()  # by a nack with a delay, until due
    PLANNED = enum.auto()  # sent with a delay: it has no place in its lane before due
    GONE = enum.auto()


class Message:
    """A message in the queue. Messages are mutable and belong to their LaneQueue."""

    __slots__ = (
        "attempts", "body", "due", "enqueued_at", "expires_at", "group", "id", "place", "priority", "queue", "receipt",
        "state",
    )  # fmt: skip

    def __init__(self, message: OutgoingMessage, now: float) -> None:
        self.queue = message.queue
        self.id = message.id
        self.body = bytes(message.body)
        self.group = message.group
        self.priority = message.priority
        self.expires_at = message.expires_at
        self.enqueued_at = now
        self.attempts = 0
        self.state = State.PLANNED if message.delay > 0 else State.READY
        self.due = now + message.delay
        self.place = 0
        self.receipt = ""

    def delivery(self) -> Delivery:
        return Delivery(
            queue=self.queue, id=self.id, body=self.body, group=self.group, priority=self.priority,
            attempts=self.attempts, receipt=self.receipt, enqueued_at=self.enqueued_at, expires_at=self.expires_at,
            lease_until=self.due,
        )  # fmt: skip


class DeadMessage:
    """A dead letter and what a redrive needs besides."""

    __slots__ = ("letter", "priority")

    def __init__(self, letter: DeadLetter, priority: int) -> None:
        self.letter = letter
        self.priority = priority


class LaneQueue:
    """Messages of one queue. A group is a lane: only its first message, and those right behind it, can be taken.

    A message without a group is a lane of its own. ``_ready`` holds the first messages of lanes that could be taken
    and ``_timers`` what waits for a moment; both are heaps whose stale items are dropped when they surface.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: dict[str, Message] = {}
        self.dead: dict[str, DeadMessage] = {}
        self._finished: OrderedDict[str, float] = OrderedDict()
        self._lanes: dict[str, OrderedDict[int, Message]] = {}
        self._ready: list[tuple[int, int, Message]] = []
        self._timers: list[tuple[float, int, Message]] = []
        self._places = itertools.count(1)
        self._ticks = itertools.count()

    def send(self, outgoing: OutgoingMessage, now: float) -> bool:
        """Add the message unless its id is known."""
        self.settle(now)
        if outgoing.id in self.messages or outgoing.id in self.dead or self._finished.get(outgoing.id, 0.0) > now:
            return False
        message = self.messages[outgoing.id] = Message(outgoing, now)
        if message.state is State.PLANNED:
            self.set_due(message, message.due)
        else:
            self._enter(message)
        return True

    def settle(self, now: float) -> None:
        """Let the leases and delays end that are due, in that order, and forget old finished ids."""
        while (timer := self._timer()) is not None and timer.due <= now:
            heapq.heappop(self._timers)
            planned = timer.state is State.PLANNED
            timer.state, timer.receipt = State.READY, ""
            if planned:
                self._enter(timer)
            else:
                self._offer(timer)
        while self._finished and next(iter(self._finished.values())) <= now:
            self._finished.popitem(last=False)

    def next_due(self) -> float:
        """When the next lease or delay ends; infinity if none runs."""
        timer = self._timer()
        return float("inf") if timer is None else timer.due

    def has_ready(self, now: float) -> bool:
        """Whether ``take`` would give something; drops what has expired."""
        self.settle(now)
        while self._ready:
            _, _, message = self._ready[0]
            if message.state is not State.READY:
                heapq.heappop(self._ready)
            elif _expired(message, now):
                self._remove(message)
            else:
                return True
        return False

    def take(self, limit: int, receive: str, now: float, until: float) -> list[Message]:
        """Lease up to ``limit`` messages, the higher priority first, then in the order of sending.

        ``receive`` is unique to this call; receipts are made of it.
        """
        taken: list[Message] = []
        behind: list[tuple[int, int, Message]] = []
        following: dict[str, Iterator[Message]] = {}
        while len(taken) < limit and (self.has_ready(now) or behind):
            first = self._ready[0] if self._ready else None
            heap = behind if first is None or (behind and behind[0] < first) else self._ready
            _, _, message = heapq.heappop(heap)
            message.state, message.receipt = State.LEASED, f"{receive}-{len(taken)}"
            self.set_due(message, until)
            taken.append(message)
            if message.group:
                if message.group not in following:
                    lane = self._lanes[message.group].values()
                    following[message.group] = iter(list(itertools.islice(lane, 1, limit)))
                following_one = self._next_takeable(following[message.group], now)
                if following_one is not None:
                    heapq.heappush(behind, (-following_one.priority, following_one.place, following_one))
        return taken

    def held(self, id: str, receipt: str, now: float) -> Message | None:
        """The message if its lease under ``receipt`` still runs."""
        message = self.messages.get(id)
        if message is None or message.state is not State.LEASED or message.receipt != receipt or message.due <= now:
            return None
        return message

    def set_due(self, message: Message, due: float) -> None:
        """Let the message's lease or delay end at ``due``."""
        message.due = due
        heapq.heappush(self._timers, (due, next(self._ticks), message))

    def put_back(self, message: Message, now: float, delay: float) -> None:
        """End the lease; the message keeps its place and can be taken after ``delay`` seconds."""
        message.receipt = ""
        if delay > 0:
            message.state = State.RETURNED
            self.set_due(message, now + delay)
        else:
            message.state = State.READY
            self._offer(message)

    def end_leases(self, now: float) -> int:
        """End every lease; the messages keep their places."""
        leased = [message for message in self.messages.values() if message.state is State.LEASED]
        for message in leased:
            self.put_back(message, now, 0.0)
        return len(leased)

    def finish(self, message: Message, until: float) -> None:
        """Remove the message and remember its id until then."""
        self._remove(message)
        self._remember(message.id, until)

    def bury(self, message: Message, reason: str, now: float) -> None:
        """Make it a dead letter."""
        self._remove(message)
        letter = DeadLetter(
            queue=self.name, id=message.id, body=message.body, group=message.group, attempts=message.attempts,
            reason=reason, dead_at=now,
        )  # fmt: skip
        self.dead[message.id] = DeadMessage(letter, message.priority)

    def redrive(self, id: str, now: float) -> bool:
        """Make the dead letter a new message."""
        found = self.dead.pop(id, None)
        if found is None:
            return False
        letter = found.letter
        return self.send(
            OutgoingMessage(queue=self.name, id=id, body=letter.body, group=letter.group, priority=found.priority), now
        )

    def discard(self, id: str, until: float) -> bool:
        """Delete the dead letter; its id counts as finished."""
        if self.dead.pop(id, None) is None:
            return False
        self._remember(id, until)
        return True

    def depth(self, now: float) -> QueueDepth:
        self.settle(now)
        states = [message.state for message in self.messages.values()]
        return QueueDepth(
            ready=states.count(State.READY),
            delayed=states.count(State.RETURNED) + states.count(State.PLANNED),
            leased=states.count(State.LEASED),
            dead=len(self.dead),
        )

    def _enter(self, message: Message) -> None:
        message.place = next(self._places)
        if message.group:
            self._lanes.setdefault(message.group, OrderedDict())[message.place] = message
        self._offer(message)

    def _first(self, message: Message) -> Message:
        return next(iter(self._lanes[message.group].values())) if message.group else message

    def _offer(self, message: Message) -> None:
        if self._first(message) is message and message.state is State.READY:
            heapq.heappush(self._ready, (-message.priority, message.place, message))

    def _next_takeable(self, lane: Iterator[Message], now: float) -> Message | None:
        for message in lane:
            if message.state is not State.READY:
                return None
            if not _expired(message, now):
                return message
            self._remove(message)
        return None

    def _remove(self, message: Message) -> None:
        del self.messages[message.id]
        message.state = State.GONE
        if message.group and message.place:
            lane = self._lanes[message.group]
            del lane[message.place]
            if lane:
                self._offer(next(iter(lane.values())))
            else:
                del self._lanes[message.group]

    def _remember(self, id: str, until: float) -> None:
        self._finished[id] = until
        self._finished.move_to_end(id)

    def _timer(self) -> Message | None:
        while self._timers:
            due, _, message = self._timers[0]
            if message.due == due and message.state in (State.LEASED, State.RETURNED, State.PLANNED):
                return message
            heapq.heappop(self._timers)
        return None


def _expired(message: Message, now: float) -> bool:
    return message.expires_at is not None and message.expires_at <= now
