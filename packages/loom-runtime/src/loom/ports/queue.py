"""MessageQueue: named queues of messages, received under a lease and acknowledged when done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import msgspec

from .port import Port

__all__ = ["DeadLetter", "Delivery", "DirectChannel", "MessageQueue", "OutgoingMessage", "QueueDepth"]


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message to send.

    ``id`` is the dedupe id: a second message with it in the same queue is dropped while the first is in the queue,
    dead-lettered, or was finished less than the adapter's ``dedupe_window`` seconds ago. ``group`` names what must
    stay in order (an actor); the empty group promises no order. ``priority``: 0 is normal, higher is received
    earlier; within a group it is ignored. ``delay`` seconds pass before it can be received. ``expires_at`` is Unix
    time: from then on the queue may drop the message and never delivers it; None means never.
    """

    queue: str
    id: str
    body: bytes
    group: str = ""
    priority: int = 0
    delay: float = 0.0
    expires_at: float | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message received under a lease that ends at ``lease_until`` (Unix time).

    ``attempts`` counts the charges by ``begin`` in earlier deliveries. ``receipt`` is valid for this delivery
    only, and no other delivery has it, not even of the same ``receive``.
    """

    queue: str
    id: str
    body: bytes
    group: str
    priority: int
    attempts: int
    receipt: str
    enqueued_at: float
    expires_at: float | None
    lease_until: float


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up, with the reason and the time (Unix seconds)."""

    queue: str
    id: str
    body: bytes
    group: str
    attempts: int
    reason: str
    dead_at: float


class QueueDepth(msgspec.Struct, frozen=True):
    """How many messages are ready, waiting for a delay, leased, and dead-lettered."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0


class DirectChannel(ABC):
    """Messages straight to whoever listens now. Nothing is kept: for what can be asked for again, such as replies.

    A message reaches every listener of its address that is connected, in the order of sending, once (twice at most,
    when a connection was cut while it was sent). A listener that may have missed some is told so. It lives as long as
    the queue that it belongs to is open.
    """

    @abstractmethod
    async def listen(self, address: str, hear: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        """Hand what is sent to ``address`` after this has returned to ``hear``, until the queue is closed.

        ``missed`` is called when a connection was lost and is there again. Neither may block or raise. Raises
        StoreUnavailableError.
        """

    @abstractmethod
    async def send_many(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send ``(address, body)`` pairs, in order. That nobody listens is no error. Raises StoreUnavailableError."""


class MessageQueue(Port):
    """At-least-once delivery from named queues; a queue exists as soon as it is named.

    Durability: a message that ``send_many`` reported survives as far as the adapter's declared durability says, and is
    delivered until it is acknowledged, dead-lettered or expired. A lease that ends without ack, nack or extend makes
    the message receivable again, by anyone.

    Ordering: with the feature ``ORDERED``, messages of one group are delivered in the order in which they were sent,
    redelivery included: while one of them is leased, delayed by a nack, or returned by a lost lease, later ones of its
    group are delivered to nobody, except in the same ``receive`` call as it and behind it. Without the feature
    nothing is promised. A delayed send (``delay > 0``) takes its place in its group when the delay ends.
    """

    dedupe_window: float = 300.0
    """Seconds for which a finished message's id is remembered."""

    max_bytes: int | None = None
    """The most bytes that a body may have; None where nothing but memory limits them."""

    def direct(self) -> DirectChannel | None:
        """A way around the queue for messages that need not be kept, or None where the backend has none.

        An adapter that has one declares the feature ``DIRECT``.
        """
        return None

    @abstractmethod
    async def send_many(self, messages: Sequence[OutgoingMessage]) -> list[bool]:
        """Enqueue durably, in order; per message True, or False when its id was a duplicate and it was dropped.

        Raises TooLargeError, before anything is enqueued, when a body exceeds ``max_bytes``. Raises
        StoreUnavailableError; sending the same ids again is then safe.
        """

    async def send(self, message: OutgoingMessage) -> bool:
        """Enqueue one message; see ``send_many``."""
        [accepted] = await self.send_many([message])
        return accepted

    @abstractmethod
    async def receive(
        self, queues: Sequence[str], *, limit: int = 1, lease: float = 30.0, wait: float = 0.0
    ) -> list[Delivery]:
        """Lease up to ``limit`` messages from any of ``queues`` for ``lease`` seconds.

        Returns at once when something is ready, else waits up to ``wait`` seconds for it, without busy polling, and
        returns an empty list when nothing came. Higher priority first, then the order of sending; expired messages are
        dropped. No queue of ``queues`` is starved by another. A call that is cancelled leaves nothing leased: what it
        has taken meanwhile it gives back.
        """

    @abstractmethod
    async def begin(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Charge one attempt to each, durably before it returns: called when work on a message starts.

        A message that was received and never begun is redelivered without a charge. Per delivery False when its lease
        was lost; nothing is charged then and the work must not start.
        """

    @abstractmethod
    async def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Finish the messages for good. Per delivery False when its lease was lost (it may be redelivered)."""

    @abstractmethod
    async def nack(self, delivery: Delivery, *, delay: float = 0.0) -> bool:
        """Give the message back; it can be received again after ``delay`` seconds. False when the lease was lost.

        With ``ORDERED`` later messages of its group wait for it.
        """

    @abstractmethod
    async def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[bool]:
        """Make the leases end ``lease`` seconds from now. Per delivery False when it was lost already."""

    async def end_leases(self, queues: Sequence[str]) -> int:
        """Make everything leased from ``queues`` receivable now, in its old place; how many messages that were.

        For whoever has taken the queues over: their last reader is gone, or no longer entitled, and its receipts are
        void from here. A queue that can't do it returns 0 and lets the leases end by themselves.
        """
        return 0

    @abstractmethod
    async def dead_letter(self, delivery: Delivery, reason: str) -> bool:
        """Give the message up: keep it among the queue's dead letters with ``reason``.
        False when the lease was lost.
        """

    @abstractmethod
    async def dead_letters(self, queue: str, *, after: str = "", limit: int = 100) -> list[DeadLetter]:
        """Dead letters of ``queue`` in the order of their ids, from the one after the id ``after``."""

    @abstractmethod
    async def redrive(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Put dead letters back as new messages: attempts 0, ready now, no expiry. Per id False when it is not there.

        The body is unchanged; whoever interprets it decides whether an old request may still run.
        """

    @abstractmethod
    async def discard(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """Delete dead letters for good. Per id False when it is not there."""

    @abstractmethod
    async def depth(self, queue: str) -> QueueDepth:
        """How many messages the queue holds; exact when nothing else uses it."""

    @abstractmethod
    async def queues(self) -> list[str]:
        """Names of the queues that hold messages or dead letters, sorted."""
