"""Messages of the queue as the scripts of ``lua/queue_*.lua`` know them; the layouts are described in the first."""

from __future__ import annotations

import os
import struct
from typing import Any

from loom.ports import DeadLetter, Delivery, OutgoingMessage

__all__ = ["Names", "dead_letter_of", "deliveries_of", "next_nonce", "rank_of", "receive_of", "sent_of"]

_SENT = struct.Struct(">10sdIH")
_STORED = struct.Struct(">d10sdIH")
_DELIVERED = struct.Struct(">HIIQ")
_DEAD = struct.Struct(">dI18s")
_COUNTER = struct.Struct(">6sI")
_NONCE = 10
_MIDDLE_RANK = 0x7FFFFFFF
_REMEMBERED = 10_000


class Names:
    """Names with NUL escaped, so that NUL can end them: NUL becomes 1 2, and 1 becomes 1 3."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._unpacked: dict[bytes, str] = {}

    def pack(self, name: str) -> bytes:
        """The name for a script."""
        packed = self._packed.get(name)
        if packed is None:
            packed = name.encode()
            if b"\0" in packed or b"\1" in packed:
                packed = packed.replace(b"\1", b"\1\3").replace(b"\0", b"\1\2")
            if len(self._packed) >= _REMEMBERED:
                self._packed.clear()
            self._packed[name] = packed
        return packed

    def unpack(self, packed: bytes) -> str:
        """The name that ``pack`` made ``packed`` of."""
        name = self._unpacked.get(packed)
        if name is None:
            raw = packed.replace(b"\1\2", b"\0").replace(b"\1\3", b"\1") if b"\1" in packed else packed
            if len(self._unpacked) >= _REMEMBERED:
                self._unpacked.clear()
            name = self._unpacked[packed] = raw.decode()
        return name

    def message(self, queue: str, id: str) -> bytes:
        """What a message is known by."""
        return self.pack(queue) + b"\0" + id.encode()


class _Nonces:
    """Ten bytes that no other process makes: six random ones, and a count."""

    def __init__(self) -> None:
        self._count = 0
        self._own = os.urandom(6)

    def next(self) -> bytes:
        self._count += 1
        if self._count >> 32:
            self._own, self._count = os.urandom(6), 0
        return _COUNTER.pack(self._own, self._count)


def next_nonce() -> _Nonces:
    """A source of ids for calls."""
    return _Nonces()


def rank_of(priority: int) -> int:
    """The higher the priority the lower; beyond 31 bits all priorities are the same."""
    return min(max(_MIDDLE_RANK - priority, 0), 0xFFFFFFFF)


def sent_of(message: OutgoingMessage, call: bytes, names: Names) -> bytes:
    """What is stored of a message, without the time, which the script knows."""
    group = names.pack(message.group) if message.group else b""
    expires = float("inf") if message.expires_at is None else message.expires_at
    return _SENT.pack(call, expires, rank_of(message.priority), len(group)) + group + message.body


def deliveries_of(text: bytes, lease_until: float, receive: bytes, names: Names) -> list[Delivery]:
    """The messages that a script has leased for ``receive``."""
    deliveries = []
    at, end, token = 0, len(text), receive.hex()
    head, stored = _DELIVERED.unpack_from, _STORED.unpack_from
    while at < end:
        name_size, size, attempts, place = head(text, at)
        at += _DELIVERED.size
        queue, _, id = text[at : at + name_size].partition(b"\0")
        at += name_size
        enqueued_at, _, expires, rank, group_size = stored(text, at)
        body_at = at + _STORED.size + group_size
        deliveries.append(
            Delivery(
                queue=names.unpack(queue), id=id.decode(), body=text[body_at : at + size],
                group=names.unpack(text[body_at - group_size : body_at]) if group_size else "",
                priority=_MIDDLE_RANK - rank, attempts=attempts, receipt=f"{token}{place:x}", enqueued_at=enqueued_at,
                expires_at=None if expires == float("inf") else expires, lease_until=lease_until,
            )
        )  # fmt: skip
        at += size
    return deliveries


def receive_of(receipt: str) -> bytes:
    """The receive that leased a message under ``receipt``; of what is no receipt of this queue, none."""
    try:
        return bytes.fromhex(receipt[: 2 * _NONCE])
    except ValueError:
        return b""


def dead_letter_of(message: bytes, fate: bytes, sent: bytes, names: Names) -> DeadLetter:
    """A dead letter as the script of dead letters tells it."""
    queue, _, id = message.partition(b"\0")
    values: tuple[Any, ...] = _STORED.unpack_from(sent)
    group_size = values[4]
    body_at = _STORED.size + group_size
    dead_at, attempts, _ = _DEAD.unpack_from(fate, 1)
    return DeadLetter(
        queue=names.unpack(queue), id=id.decode(), body=sent[body_at:],
        group=names.unpack(sent[_STORED.size : body_at]) if group_size else "", attempts=attempts,
        reason=fate[1 + _DEAD.size :].decode(), dead_at=dead_at,
    )  # fmt: skip
