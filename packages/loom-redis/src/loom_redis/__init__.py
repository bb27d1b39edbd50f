"""Loom on Redis. The adapters are chosen by URL (``redis://localhost:6379/0``) and need not be imported."""

from __future__ import annotations

from .__about__ import __version__

__all__ = ["__version__"]
