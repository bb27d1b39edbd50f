"""What tests are written with: a virtual clock, recorded histories, journals in failures, faults; suites for adapters.

``pytest_plugins = ["loom.testing.plugin"]`` brings the fixtures. Nothing here needs pytest but that
plugin and the suites.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import memory_app
    from .assertions import assert_run, journal_on_failure, journal_text
    from .clock import ManualClock
    from .faults import Fault, FaultPlan, Faulty
    from .history import export_history, replay_history
    from .virtual_clock import NothingDueError, VirtualClock

__all__ = [
    "Fault",
    "FaultPlan",
    "Faulty",
    "ManualClock",
    "NothingDueError",
    "VirtualClock",
    "assert_run",
    "export_history",
    "journal_on_failure",
    "journal_text",
    "memory_app",
    "replay_history",
]

# Late, because the suites start child processes that need none of it.
_LATE = {
    "Fault": "faults",
    "FaultPlan": "faults",
    "Faulty": "faults",
    "ManualClock": "clock",
    "NothingDueError": "virtual_clock",
    "VirtualClock": "virtual_clock",
    "assert_run": "assertions",
    "export_history": "history",
    "journal_on_failure": "assertions",
    "journal_text": "assertions",
    "memory_app": "app",
    "replay_history": "history",
}


def __getattr__(name: str) -> Any:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{module}", __name__), name)
