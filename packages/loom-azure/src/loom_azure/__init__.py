"""Loom on Azure. Adapters are chosen by URL (``azblob://account/container``) and need not be imported."""

from __future__ import annotations

from .__about__ import __version__

__all__ = ["__version__"]
