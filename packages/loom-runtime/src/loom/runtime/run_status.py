"""What the outside can learn of a run."""

from __future__ import annotations

import msgspec

from ..codec import ErrorInfo

__all__ = ["RunOutcome", "RunStatus"]


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands: ``status`` is running, completed, failed, cancelled or stopped.

    ``waiting_for`` says what it waits for, one text per strand. ``stopped`` means that its code and its journal differ,
    or that the journal can't be read; ``error`` says how. Times are Unix time.
    """

    workflow: str
    run_id: str
    status: str
    started_at: float
    finished_at: float | None = None
    waiting_for: list[str] = []
    steps_done: int = 0
    incarnation: int = 0
    cancel_requested: bool = False
    error: str | None = None


class RunOutcome(msgspec.Struct, array_like=True, gc=False):
    """How a run ended; ``status`` is running when it has not."""

    status: str
    value: bytes | None = None
    error: ErrorInfo | None = None
