"""Packages written for you: ``loom new-adapter`` fills in the templates of this folder."""

from .adapter import AdapterName, write_adapter

__all__ = ["AdapterName", "write_adapter"]
