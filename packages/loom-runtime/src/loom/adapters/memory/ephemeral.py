"""The warning that every in-memory adapter gives in production."""

from __future__ import annotations

import os
import warnings

from ...errors import EphemeralAdapterWarning

__all__ = ["warn_if_production"]


def warn_if_production(name: str) -> None:
    """Emit EphemeralAdapterWarning, pointing at the caller of the constructor, when ``LOOM_ENV`` is production."""
    if os.environ.get("LOOM_ENV", "").strip().lower() == "production":
        warnings.warn(
            f"{name} keeps everything in this process's memory and loses it at exit, and LOOM_ENV is production; "
            "choose a durable adapter by URL, for example LOOM_URL=sqlite:////var/lib/loom/loom.db",
            EphemeralAdapterWarning,
            stacklevel=3,
        )
