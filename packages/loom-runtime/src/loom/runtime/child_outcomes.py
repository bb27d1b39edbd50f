"""How a run that has ended tells the runs that wait for it."""

from __future__ import annotations

from ..codec import ErrorInfo, decode, encode, error_info
from ..errors import WorkflowCancelledError
from .entries import ParentJoined, ResultRecorded, RunFinished
from .messages import Kind, Message, derived_id

__all__ = ["child_outcome", "decode_child", "finished_outcome"]


def finished_outcome(stream: str, parent: ParentJoined, finished: RunFinished) -> Message:
    """The message that tells ``parent`` how the run ended."""
    error = finished.error
    if finished.status == "cancelled":
        error = error_info(WorkflowCancelledError(f"{stream} was cancelled", stream=stream))
    return child_outcome(stream, parent, finished.at, finished.value, error)


def child_outcome(
    stream: str, parent: ParentJoined, at: float, value: bytes | None, error: ErrorInfo | None
) -> Message:  # fmt: skip
    """The message that tells ``parent`` what became of its child. It never expires: somebody waits for it."""
    outcome = ResultRecorded(parent.position, "child", stream, at, value, error)
    return Message(id=derived_id("child", stream, parent.parent, parent.request), kind=Kind.CHILD, stream=parent.parent,
                   args=encode(outcome), sent_at=at)  # fmt: skip


def decode_child(data: bytes) -> ResultRecorded:
    """The outcome of a child as its message carries it."""
    found: ResultRecorded = decode(data, ResultRecorded)
    return found
