"""Random ids, cheaply: a random prefix for this process and a counter."""

from __future__ import annotations

import secrets

__all__ = ["Ids"]


class Ids:
    """Ids that no other process makes. 96 random bits, then a number that counts up."""

    def __init__(self, prefix: str | None = None) -> None:
        self._prefix = prefix or secrets.token_hex(12)
        self._count = 0

    def next(self) -> str:
        """A new id."""
        self._count += 1
        return f"{self._prefix}-{self._count:x}"
