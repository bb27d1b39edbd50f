"""Loom: durable virtual actors and workflows in plain async Python."""

from .__about__ import __version__
from .actor import Actor, read_only
from .app import Loom
from .client import Client, RunHandle, RunSummary
from .clock import Clock, SystemClock
from .codec import PayloadCodec
from .context import Context, TurnContext
from .errors import LoomError
from .interceptors import CallInfo, Interceptor, StepInfo, TurnInfo
from .options import RuntimeOptions
from .runtime.run_status import RunStatus
from .runtime.steps import step_info
from .workflow import Workflow, workflow

__all__ = [
    "Actor",
    "CallInfo",
    "Client",
    "Clock",
    "Context",
    "Interceptor",
    "Loom",
    "LoomError",
    "PayloadCodec",
    "RunHandle",
    "RunStatus",
    "RunSummary",
    "RuntimeOptions",
    "StepInfo",
    "SystemClock",
    "TurnContext",
    "TurnInfo",
    "Workflow",
    "__version__",
    "read_only",
    "step_info",
    "workflow",
]
