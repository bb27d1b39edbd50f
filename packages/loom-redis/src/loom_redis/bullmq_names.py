"""Names between Loom and BullMQ: what BullMQ refuses or would take for its own is escaped by ``%XX``, reversibly."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

__all__ = ["id_of", "job_id", "prefix_of", "queue_of"]

_ESCAPED = re.compile(r"[%:\x00-\x1f\x7f]")
_INTEGER = re.compile(r"-?[0-9]+")

# "bull:QUEUE:wait" is the wait list, so no job may be called so; and Bull gives whole numbers to jobs without an id.
_TAKEN = frozenset(
    {
        "active", "completed", "de", "delayed", "events", "failed", "id", "limiter", "marker", "meta", "metrics",
        "paused", "pc", "priority", "prioritized", "repeat", "stalled", "stalled-check", "wait", "waiting",
        "waiting-children",
    }
)  # fmt: skip


def job_id(id: str) -> str:
    """The id under which BullMQ keeps the message ``id``: the same text but for ``%``, ``:``, control characters, and
    the first character of a whole number or of a name that BullMQ uses itself.
    """
    text = _escape(id)
    return f"%{ord(text[0]):02X}{text[1:]}" if text in _TAKEN or _INTEGER.fullmatch(text) else text


def id_of(job: str) -> tuple[str, bool]:
    """The message id of the job called ``job``, and whether ``job_id`` makes that name of it.

    It doesn't for jobs that others have named, such as ``17``; they keep their name.
    """
    if "%" not in job:
        return job, job == job_id(job)
    id = unquote(job)
    return (id, True) if id and job_id(id) == job else (job, False)


@lru_cache(4096)
def prefix_of(namespace: str, queue: str) -> str:
    """How the keys of a queue begin; jobs, lists and sets follow."""
    return f"{namespace}:{_escape(queue)}:"


def queue_of(name: str) -> str | None:
    """The queue that BullMQ calls ``name``; None when no name of ours leads there."""
    queue = unquote(name) if "%" in name else name
    return queue if queue and _escape(queue) == name else None


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text)
