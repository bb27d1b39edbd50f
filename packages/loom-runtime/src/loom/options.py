"""RuntimeOptions: the numbers a host runs by."""

from __future__ import annotations

import math

import msgspec

from .errors import ConfigurationError

__all__ = ["OPTION_TYPES", "RuntimeOptions"]


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a host runs: sizes, limits and times. Times are seconds.

    Every value is positive (``drain_seconds`` may be zero) and checked when the options are made; a wrong one raises
    ConfigurationError naming it. Each can be set in the ``[runtime]`` table of loom.toml and by
    ``LOOM_RUNTIME_<NAME>``.
    """

    shards: int = 256
    """Into how many shards actors hash. Stored at the fleet's first start; a host with another number may not join."""

    turn_deadline: float = 30.0
    """How long one turn of an actor may take before it is given up uncommitted."""

    call_timeout: float = 30.0
    """How long a client waits for the result of a call; it can be made with another."""

    mailbox_limit: int = 1000
    """How many messages may wait for one actor. Calls beyond it get OverloadedError; sends are parked durably."""

    message_life: float = 86_400.0
    """How long after it was sent a message may still be run. An older one is refused, never run."""

    idempotency_window: float = 86_400.0
    """How long a request id is remembered, so that a repeat is answered and not run. At least ``message_life``."""

    snapshot_every: int = 100
    """How many journal entries an actor writes between snapshots."""

    retain_entries: int = 1000
    """How many journal entries behind the snapshot are kept for reading history before they are trimmed."""

    idle_seconds: float = 300.0
    """How long an actor without messages stays in memory."""

    max_active: int = 100_000
    """How many actors a host keeps in memory; beyond it the least recently used idle ones leave."""

    max_attempts: int = 5
    """How often a message is tried before it becomes a dead letter."""

    max_message_bytes: int = 4 * 1024 * 1024
    """The largest encoded message, result or state, in bytes."""

    run_retention: float = 2_592_000.0
    """How long a run that has ended is listed. Its journal stays, and with it the run's result."""

    unserved_window: float = 3600.0
    """How long a request waits for a host that has code for its type before it becomes a dead letter."""

    drain_seconds: float = 30.0
    """How long a stopping host lets turns under way finish; 0 stops without waiting."""

    crash_attempts: int = 3
    """How often a message that runs alone may crash its host before it counts as poison and becomes a dead letter."""

    def __post_init__(self) -> None:
        for name, kind in OPTION_TYPES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
                wanted = "a whole number" if kind is int else "a number"
                raise ConfigurationError(f"{name} must be {wanted}, not {value!r}", option=name)
            lowest_ok = value >= 0 if name in _MAY_BE_ZERO else value > 0
            if not lowest_ok or not math.isfinite(value):
                wanted = "zero or more" if name in _MAY_BE_ZERO else "greater than zero"
                raise ConfigurationError(f"{name} must be {wanted} and finite, not {value!r}", option=name)
            if kind is float and isinstance(value, int):
                msgspec.structs.force_setattr(self, name, float(value))
        if self.idempotency_window < self.message_life:
            # A message that outlives the memory of its id would run a second time when it is redelivered.
            raise ConfigurationError(
                f"idempotency_window ({self.idempotency_window:g} s) must be at least message_life "
                f"({self.message_life:g} s): raise the one or lower the other",
                option="idempotency_window",
            )


OPTION_TYPES: dict[str, type[int] | type[float]] = {
    field.name: int if isinstance(field.default, int) else float for field in msgspec.structs.fields(RuntimeOptions)
}
"""The type of every option by its name, in the order of their declaration."""

_MAY_BE_ZERO = frozenset({"drain_seconds"})
