"""The logger of a workflow: silent while its run replays, so that a line is logged once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .execution import Execution

__all__ = ["RunLogger"]

_log = logging.getLogger("loom.workflow")


class RunLogger(logging.Logger):
    """The workflow logger, silent while its run replays."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(_log.name)
        self.parent = _log
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:
        """Whether the run is live and the workflow logger takes the level."""
        return not (self._execution.replaying or self._execution.closed) and _log.isEnabledFor(level)
