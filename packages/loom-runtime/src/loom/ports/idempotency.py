"""IdempotencyStore: at most one execution per key, for edges outside the runtime (webhooks, HTTP handlers)."""

from __future__ import annotations

from abc import abstractmethod

import msgspec

from .port import Port

__all__ = ["IdempotencyRecord", "IdempotencyStore"]


class IdempotencyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key.

    ``token`` proves who began; it is empty in a record that the caller did not begin itself. ``result`` is None until
    it is completed. ``expires_at`` is Unix time: the record, finished or not, is forgotten then.
    """

    key: str
    token: str
    fingerprint: str
    completed: bool
    result: bytes | None
    began_at: float
    expires_at: float


class IdempotencyStore(Port):
    """begin -> token -> complete, each by compare-and-set.

    A key that was begun and not completed stays taken until its ``ttl`` ends: only ``take_over`` hands it to another,
    because only the caller can know whether the first one's effects happened.
    """

    @abstractmethod
    async def begin(self, key: str, *, fingerprint: str = "", ttl: float = 86_400.0) -> IdempotencyRecord:
        """Claim ``key``, or return its completed record.

        Returns a record with ``completed=False`` and a token when this call claimed it: do the work, then
        ``complete``. Returns the completed record when it was done before. Raises IdempotencyTakenError when somebody
        else has begun and not completed; IdempotencyConflictError when the key was used with another fingerprint
        (a hash of the request).
        """

    @abstractmethod
    async def complete(self, record: IdempotencyRecord, result: bytes) -> None:
        """Store the result. Repeating it with the same token is harmless.

        Raises IdempotencyTakenError when the key was taken over or forgotten since: the result was not stored.
        """

    @abstractmethod
    async def abandon(self, record: IdempotencyRecord) -> None:
        """Free the key: nothing was done under it. Does nothing when the key was taken over."""

    @abstractmethod
    async def take_over(self, key: str, *, ttl: float = 86_400.0) -> IdempotencyRecord:
        """Claim a key that another began: its token stops working. Raises KeyError when the key is unknown.

        Returns the completed record when it was completed meanwhile.
        """

    @abstractmethod
    async def get(self, key: str) -> IdempotencyRecord | None:
        """What is known of the key, with an empty token, or None."""
