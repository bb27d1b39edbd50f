"""StateStore: actor state as a projection for queries."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import msgspec

from .port import Port

__all__ = ["StateRecord", "StateStore"]


class StateRecord(msgspec.Struct, frozen=True):
    """The state of one actor as of journal position ``seq``, as JSON. ``updated_at`` is Unix time."""

    actor_type: str
    key: str
    state: dict[str, Any]
    seq: int
    updated_at: float


class StateStore(Port):
    """An eventually consistent projection of actor state. Turns never read it: the journal is the truth."""

    @abstractmethod
    async def save(self, record: StateRecord) -> bool:
        """Store the record if its ``seq`` is above the stored one; say whether it was taken. Never moves backwards."""

    @abstractmethod
    async def load(self, actor_type: str, key: str) -> StateRecord | None:
        """The newest record, or None."""

    @abstractmethod
    async def delete(self, actor_type: str, key: str) -> None:
        """Forget the record; deleting what is not there succeeds."""

    @abstractmethod
    async def query(
        self, actor_type: str, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[StateRecord], str | None]:
        """Records of one actor type in the order of their keys, with the cursor of the next page or None."""
