"""Named points at which a test may kill this process, to prove what recovery makes of it."""

from __future__ import annotations

import os
import signal

__all__ = ["CRASH_POINTS", "crash_point"]

CRASH_POINTS = (
    "append.before",  # nothing of the batch is durable
    "append.after",  # the batch is durable, nobody has heard of it
    "turn.begin",  # the request was charged, the handler has not run
    "turn.handled",  # the handler has run, nothing is durable
    "turn.pending",  # the pending record is durable, the entry is not
    "turn.committed",  # the entry is durable; not replied, not acked, nothing sent
    "outbox.sent",  # outgoing messages are queued, the turn is not acked
    "turn.replied",  # the reply is sent, the request is not acked
    "step.before",  # a step is about to run
    "step.after",  # a step has run, its result is not durable
    "run.pending",  # an entry of a run is durable (the first with its record), what it asks for has not begun
    "run.finished",  # the finishing entry is durable, the record still says running
    "reminder.fired",  # a due reminder was taken from the actor, its message is not queued
    "snapshot.written",  # the snapshot is durable, nothing is trimmed
)

_armed = os.environ.get("LOOM_CRASH_AT", "")
_name, _, _count = _armed.partition(":")
_remaining = int(_count or 1)


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if ``LOOM_CRASH_AT=name[:nth]`` asked for it and this is the nth passage.

    Read once at import; costs a comparison otherwise. Tests only: in production the variable is refused by the guard.
    """
    if name != _name:
        return
    global _remaining  # noqa: PLW0603 - the count of this process, and tests only
    _remaining -= 1
    if _remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
