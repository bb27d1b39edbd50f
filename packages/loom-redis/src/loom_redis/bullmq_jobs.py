"""What a message looks like as a BullMQ job, and a job as a message.

``data`` is the body itself where that is JSON, so that a worker in Node gets it as ``job.data``; any other body is
wrapped as ``{"loom":1,"body":"<base64>"}``. Both come back byte by byte. ``opts.loom`` has what BullMQ has no word
for: ``group``, ``expires_at`` (Unix seconds) and ``priority``. ``name`` is the group, or ``loom``.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from loom.ports import DeadLetter, Delivery, OutgoingMessage

from .bullmq_names import id_of, job_id

__all__ = ["FOREIGN", "dead_letter_of", "delivery_of", "job_of", "raw_id"]

FOREIGN = "~"
"""Ends the receipts of jobs whose name in BullMQ is not the one that we would have given."""

_LOWEST = 2_097_152  # BullMQ's limit for a priority
_WRAPPED = b'{"loom":1,"body":"'
_UNNAMED = "__default__"  # what old versions in Node called jobs without a name


class _Marks(msgspec.Struct, omit_defaults=True):
    """``opts.loom``."""

    group: str = ""
    expires_at: float | None = None
    priority: int = 0


class _Opts(msgspec.Struct):
    loom: _Marks | None = None


class _Wrapped(msgspec.Struct):
    body: str


_decode_opts = msgspec.json.Decoder(_Opts).decode
_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_json = msgspec.json.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


def job_of(
    message: OutgoingMessage, *, window: float, attempts: int
) -> tuple[str, str, bytes, bytes, int, int, int, int]:
    """``(id, name, data, packed options, delay, BullMQ's priority, lift, expiry)`` for the script that adds it.

    The delay is in milliseconds, the expiry in Unix milliseconds, 0 for never.

    BullMQ runs jobs without a priority first, and those with one by rising number: so one below normal is a priority
    of BullMQ's, and one above is a lift, a place in the wait list ahead of others.
    """
    delay = math.ceil(message.delay * 1000) if message.delay > 0 else 0
    below = min(-message.priority, _LOWEST) if message.priority < 0 else 0
    options: dict[str, Any] = {
        "attempts": attempts,
        "removeOnComplete": {"age": math.ceil(window)},
        "loom": _Marks(message.group, message.expires_at, message.priority),
    }
    if delay:
        options["delay"] = delay
    if below:
        options["priority"] = below
    name, data, lift = message.group or "loom", _data_of(message.body), max(0, message.priority)
    expires = 0 if message.expires_at is None else max(1, math.ceil(message.expires_at * 1000))
    return job_id(message.id), name, data, _pack(options), delay, below, lift, expires


def delivery_of(queue: str, job: str, token: str, fields: Mapping[bytes, bytes], lease_until: float) -> Delivery:
    """The delivery of a job that was locked by ``token``."""
    id, ours = id_of(job)
    marks = _marks_of(fields)
    return Delivery(
        queue=queue,
        id=id,
        body=_body_of(fields),
        group=_group_of(fields, marks),
        priority=-int(_number(fields, b"priority")) if marks is None else marks.priority,
        attempts=int(_number(fields, b"atm")),
        receipt=token if ours else token + FOREIGN,
        enqueued_at=_number(fields, b"timestamp") / 1000,
        expires_at=None if marks is None or b"loom:redriven" in fields else marks.expires_at,
        lease_until=lease_until,
    )


def raw_id(delivery: Delivery) -> tuple[str, str]:
    """BullMQ's id of a delivery's job, and the token of its lock."""
    if delivery.receipt.endswith(FOREIGN):
        return delivery.id, delivery.receipt.removesuffix(FOREIGN)
    return job_id(delivery.id), delivery.receipt


def dead_letter_of(queue: str, id: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    """A failed job as a dead letter, whoever made it fail."""
    return DeadLetter(
        queue=queue,
        id=id,
        body=_body_of(fields),
        group=_group_of(fields, _marks_of(fields)),
        attempts=int(_number(fields, b"atm")),
        reason=fields.get(b"failedReason", b"").decode(errors="replace"),
        dead_at=_number(fields, b"finishedOn") / 1000,
    )


def _data_of(body: bytes) -> bytes:
    if not body.startswith(_WRAPPED):  # such a body would be unwrapped at the other end
        try:
            body.decode()
            _decode_json(body)
            return body
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            pass
    return b'%s%s"}' % (_WRAPPED, base64.b64encode(body))


def _body_of(fields: Mapping[bytes, bytes]) -> bytes:
    data = fields.get(b"data", b"null")
    if data.startswith(_WRAPPED):
        try:
            return base64.b64decode(_decode_wrapped(data).body, validate=True)
        except (msgspec.DecodeError, binascii.Error):
            pass
    return data


def _marks_of(fields: Mapping[bytes, bytes]) -> _Marks | None:
    opts = fields.get(b"opts", b"")
    if b'"loom"' not in opts:
        return None
    try:
        return _decode_opts(opts).loom
    except msgspec.DecodeError:
        return None


def _group_of(fields: Mapping[bytes, bytes], marks: _Marks | None) -> str:
    if marks is not None:
        return marks.group
    name = fields.get(b"name", b"").decode(errors="replace")
    return "" if name == _UNNAMED else name


def _number(fields: Mapping[bytes, bytes], name: bytes) -> float:
    try:
        return float(fields.get(name, b"0"))
    except ValueError:  # whoever wrote it: it must not keep the queue from being read
        return 0.0
