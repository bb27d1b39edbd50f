"""What a journal entry holds: the events of actors and of runs, and the snapshot of an actor."""

from __future__ import annotations

import msgspec

from ..codec import ErrorInfo, PayloadCodec, encode
from ..errors import CorruptEntryError
from .messages import Message

__all__ = [
    "ActorSnapshot",
    "CancelRequested",
    "ChildStarted",
    "Event",
    "ParentJoined",
    "Remembered",
    "Reminder",
    "ResultRecorded",
    "RunContinued",
    "RunFinished",
    "RunRetried",
    "RunStarted",
    "Sent",
    "SignalReceived",
    "StepBegan",
    "TurnBegan",
    "TurnCommitted",
    "TurnStep",
    "VersionMarked",
    "decode_entry",
    "encode_entry",
]


class Reminder(msgspec.Struct, array_like=True, gc=False):
    """A call that an actor has asked to be made to itself at ``due`` (Unix time)."""

    name: str
    due: float
    method: str
    args: bytes


class TurnCommitted(msgspec.Struct, array_like=True, tag="turn", gc=False):
    """A turn ended and its effects hold. ``state`` is None when the turn failed.

    ``remember_until`` is when the request's id may be forgotten, 0 for one that can't come again. ``sent`` is the
    position up to which outgoing messages of earlier entries are known to be queued.
    """

    request: str
    method: str
    at: float
    state: bytes | None
    version: int
    result: bytes | None = None
    error: ErrorInfo | None = None
    remember_until: float = 0.0
    fingerprint: bytes = b""
    outgoing: list[Message] = []
    reminders: list[Reminder] = []
    forgotten: list[str] = []
    sent: int = 0


class TurnBegan(msgspec.Struct, array_like=True, tag="began", gc=False):
    """A turn with steps began: it will be finished from here, whatever happens to the host."""

    message: Message
    at: float


class TurnStep(msgspec.Struct, array_like=True, tag="turn-step", gc=False):
    """A step of an unfinished turn has a result."""

    position: str
    name: str
    at: float
    value: bytes | None = None
    error: ErrorInfo | None = None


class Remembered(msgspec.Struct, array_like=True, gc=False):
    """The answer to a request id that may come again until ``until`` (Unix time)."""

    request: str
    until: float
    fingerprint: bytes = b""
    result: bytes | None = None
    error: ErrorInfo | None = None


class ActorSnapshot(msgspec.Struct, array_like=True, gc=False):
    """An actor at a turn boundary with nothing left to send."""

    state: bytes
    version: int
    at: float
    remembered: list[Remembered] = []
    reminders: list[Reminder] = []


class RunStarted(msgspec.Struct, array_like=True, tag="started", gc=False):
    """A run began; ``message`` is the request that began it, ``incarnation`` counts continuations from 0."""

    message: Message
    at: float
    incarnation: int = 0


class ResultRecorded(msgspec.Struct, array_like=True, tag="result", gc=False):
    """What the workflow waited for at ``position`` has an outcome. ``kind`` and ``name`` say what it had asked.

    ``unknown`` is set when a step failed and may have taken effect nevertheless.
    """

    position: str
    kind: str
    name: str
    at: float
    value: bytes | None = None
    error: ErrorInfo | None = None
    unknown: bool = False


class StepBegan(msgspec.Struct, array_like=True, tag="step-began", gc=False):
    """A step with an undo is about to run: from here its outcome counts as unknown until a result is recorded."""

    position: str
    name: str


class Sent(msgspec.Struct, array_like=True, tag="sent", gc=False):
    """A message left the run; it is queued from this entry."""

    position: str
    message: Message


class ChildStarted(msgspec.Struct, array_like=True, tag="child-started", gc=False):
    """A child run was asked to start; its outcome comes back as the result at ``position``."""

    position: str
    message: Message


class VersionMarked(msgspec.Struct, array_like=True, tag="version", gc=False):
    """The run passed ``change_id`` with the code of ``version``."""

    change_id: str
    version: int


class SignalReceived(msgspec.Struct, array_like=True, tag="signal", gc=False):
    """A signal arrived; ``request`` is its message id where it may come again, until ``until`` (Unix time)."""

    name: str
    value: bytes
    at: float
    request: str
    until: float = 0.0


class ParentJoined(msgspec.Struct, array_like=True, tag="parent", gc=False):
    """One more run waits for this one, which it had found started: ``position`` is its place in ``parent``."""

    parent: str
    position: str
    at: float
    request: str


class CancelRequested(msgspec.Struct, array_like=True, tag="cancel", gc=False):
    """Somebody asked the run to stop."""

    reason: str
    at: float
    request: str


class RunFinished(msgspec.Struct, array_like=True, tag="finished", gc=False):
    """The run ended: ``status`` is completed, failed or cancelled. ``outgoing`` tells the parent, if there is one."""

    status: str
    at: float
    value: bytes | None = None
    error: ErrorInfo | None = None
    published: dict[str, bytes] = {}
    outgoing: list[Message] = []


class RunContinued(msgspec.Struct, array_like=True, tag="continued", gc=False):
    """The run goes on from the start with new arguments.

    What nobody had read carries over: signals, and a cancellation that was not delivered. So do published values, the
    runs that wait for this one, and the request ids that may still come again.
    """

    args: bytes
    at: float
    incarnation: int
    signals: list[SignalReceived] = []
    published: dict[str, bytes] = {}
    parents: list[ParentJoined] = []
    cancel: CancelRequested | None = None
    requests: dict[str, float] = {}


class RunRetried(msgspec.Struct, array_like=True, tag="retried", gc=False):
    """A failed run goes on.

    ``mode`` is ``start``: from its start, as ``incarnation``; ``drop``: as if the input ``place`` of the entry ``seq``,
    the failure, had not come; ``open``: from its last entry, with the code of today.
    """

    at: float
    request: str
    incarnation: int
    mode: str = "start"
    seq: int = 0
    place: int = 0


Event = (
    TurnCommitted | TurnBegan | TurnStep
    | RunStarted | ResultRecorded | StepBegan | Sent | ChildStarted | VersionMarked
    | SignalReceived | CancelRequested | ParentJoined | RunFinished | RunContinued | RunRetried
)  # fmt: skip

_decode = msgspec.msgpack.Decoder(list[Event]).decode
_decode_snapshot = msgspec.msgpack.Decoder(ActorSnapshot).decode


def encode_entry(events: list[Event], codecs: tuple[PayloadCodec, ...] = ()) -> bytes:
    """The bytes of one journal entry."""
    return wrap(encode(events), codecs)


def decode_entry(stream: str, seq: int, data: bytes, codecs: tuple[PayloadCodec, ...] = ()) -> list[Event]:
    """The events of one journal entry. Raises CorruptEntryError naming stream and seq."""
    try:
        return _decode(unwrap(data, codecs))
    except Exception as error:
        raise CorruptEntryError(
            f"{stream}: the journal entry at seq {seq} can't be read ({error}). This stream is stopped; nothing was "
            "overwritten. Restore the entry from a backup, or see 'loom journal --raw'",
            stream=stream,
            seq=seq,
        ) from error


def encode_snapshot(snapshot: ActorSnapshot, codecs: tuple[PayloadCodec, ...] = ()) -> bytes:
    """The bytes of an actor's snapshot."""
    return wrap(encode(snapshot), codecs)


def decode_snapshot(stream: str, seq: int, data: bytes, codecs: tuple[PayloadCodec, ...] = ()) -> ActorSnapshot:
    """An actor's snapshot. Raises CorruptEntryError naming stream and seq."""
    try:
        return _decode_snapshot(unwrap(data, codecs))
    except Exception as error:
        raise CorruptEntryError(
            f"{stream}: the snapshot at seq {seq} can't be read ({error}). This stream is stopped; nothing was "
            f"overwritten",
            stream=stream,
            seq=seq,
        ) from error


def wrap(data: bytes, codecs: tuple[PayloadCodec, ...]) -> bytes:
    """Apply payload codecs, first to last."""
    for codec in codecs:
        data = codec.encode(data)
    return data


def unwrap(data: bytes, codecs: tuple[PayloadCodec, ...]) -> bytes:
    """Undo payload codecs, last to first."""
    for codec in reversed(codecs):
        data = codec.decode(data)
    return data
