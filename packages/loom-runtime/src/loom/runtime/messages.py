"""What travels between callers and actors: a request and its reply, and the names of streams and queues."""

from __future__ import annotations

import enum
from functools import lru_cache
from hashlib import blake2b

import msgspec

from ..codec import ErrorInfo, decoder
from ..errors import InvalidKeyError
from ..ports import MAX_KEY_BYTES, check_key

__all__ = [
    "DIRECT",
    "READS",
    "UNORDERED",
    "Kind",
    "Message",
    "Reply",
    "actor_stream",
    "derived_id",
    "direct_address",
    "mailbox_queue",
    "reply_queue",
    "run_stream",
    "shard_of",
    "split_stream",
    "type_mailbox",
    "type_of",
]


DIRECT = "direct:"
"""What ``reply_to`` begins with where the reply goes around the queue."""


class Kind(enum.IntEnum):
    """What a message asks of the stream that it is addressed to."""

    CALL = 1  # run a handler and answer
    SEND = 2  # run a handler; nobody waits
    START = 3  # begin a run
    SIGNAL = 4
    CANCEL = 5
    RETRY = 6  # run a failed run again from where it failed
    CHILD = 7  # a child run has finished
    STATUS = 8  # read: what a run is doing
    GET = 9  # read: a published value
    RESULT = 10  # read: wait for a run's outcome
    RUN = 11  # begin a run, and wait for its outcome
    WAKE = 12  # go on with what the pending record says is unfinished


READS = frozenset({Kind.STATUS, Kind.GET, Kind.RESULT})
"""Requests that change nothing."""

UNORDERED = READS | {Kind.RUN, Kind.WAKE}
"""Requests that keep no order: one that waits for an outcome must not hold up what brings it, and what wakes an actor
must not wait behind what waits for it.
"""


class Message(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """A request.

    ``id`` identifies the request through every redelivery and retry. It is never run at or after ``expires_at``, and
    when ``remember`` is set it is answered from the journal until then. ``deadline`` is when the caller stops waiting
    (both Unix time). ``fingerprint`` is a hash of the arguments where an idempotency key was given. ``chain`` holds
    the streams whose turns wait for this call. ``parent`` and ``position`` say which run waits for a started child.
    ``ticket`` names one attempt to get an answer through the queue: replies come back under it. ``memory`` is until
    when the answer must be remembered where that is longer than ``expires_at``.
    """

    id: str
    kind: Kind
    stream: str
    method: str = ""
    args: bytes = b"\x80"
    sent_at: float = 0.0
    expires_at: float = 0.0
    remember: bool = True
    deadline: float = 0.0
    fingerprint: bytes = b""
    reply_to: str = ""
    chain: tuple[str, ...] = ()
    parent: str = ""
    position: str = ""
    ticket: str = ""
    memory: float = 0.0


class Reply(msgspec.Struct, array_like=True, gc=False):
    """The answer to the message ``id``: a result or an error."""

    id: str
    result: bytes | None = None
    error: ErrorInfo | None = None


decode_message = decoder(Message).decode
decode_reply = decoder(Reply).decode


def actor_stream(actor_type: str, key: str) -> str:
    """The journal stream of an actor. Raises InvalidKeyError when the key is empty or too long."""
    return _stream("actor", actor_type, key)


def run_stream(workflow: str, run_id: str) -> str:
    """The journal stream of a workflow run. Raises InvalidKeyError when the id is empty or too long."""
    return _stream("run", workflow, run_id)


def _stream(kind: str, name: str, key: str) -> str:
    check_key(f"the key of {name}", key)
    stream = f"{kind}/{name}/{key}"
    if len(stream) * 4 > MAX_KEY_BYTES and len(stream.encode()) > MAX_KEY_BYTES - 64:
        raise InvalidKeyError(f"the key of {name} is longer than {MAX_KEY_BYTES - 64 - len(kind) - len(name)} bytes")
    return stream


def split_stream(stream: str) -> tuple[str, str, str]:
    """``(kind, type or workflow, key)`` of a stream name."""
    kind, name, key = stream.split("/", 2)
    return kind, name, key


def type_of(stream: str) -> str:
    """What the streams of one actor type or workflow begin with: ``actor/TYPE`` or ``run/WORKFLOW``."""
    return stream[: stream.index("/", stream.index("/") + 1)]


@lru_cache(maxsize=8192)
def shard_of(stream: str, shards: int) -> int:
    """The shard of a stream: the same on every host, Python version and machine."""
    return int.from_bytes(blake2b(stream.encode(), digest_size=8).digest(), "big") % shards


def derived_id(*parts: str) -> str:
    """An id that the same parts always give: 128 bits of BLAKE2b over them, in hexadecimal."""
    return blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=4096)
def mailbox_queue(shard: int) -> str:
    """The queue that holds the requests to a shard's actors."""
    return f"loom/shard/{shard}"


def type_mailbox(shard: int, type: str) -> str:
    """The queue that holds the requests of one type where the shard's owner has no code for it."""
    return f"loom/shard/{shard}/{type}"


def direct_address(member: str) -> str:
    """Where a member hears replies that go around the queue."""
    return f"{DIRECT}{member}"


def reply_queue(member: str) -> str:
    """The queue that holds the replies to a host or client."""
    return f"loom/reply/{member}"
