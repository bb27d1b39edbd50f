"""LockManager: named leases with fencing tokens."""

from __future__ import annotations

from abc import abstractmethod

import msgspec

from .port import Port

__all__ = ["Lease", "LockManager"]


class Lease(msgspec.Struct, frozen=True):
    """A lock held until ``expires_at`` (Unix time, the manager's clock).

    ``token`` is the fencing token: of two leases on one name the later has the higher token. Hand it to whatever the
    lock protects and let that refuse a lower one; the lease alone cannot stop a holder that was paused.
    ``holder`` is random, unique to this lease.
    """

    name: str
    token: int
    holder: str
    expires_at: float


class LockManager(Port):
    """Exclusive leases by name. At most one unexpired lease exists per name, by the manager's clock."""

    @abstractmethod
    async def acquire(self, name: str, ttl: float, *, wait: float = 0.0) -> Lease | None:
        """Take the lock for ``ttl`` seconds; None when it stayed taken for ``wait`` seconds.

        Not reentrant. Waiters of one manager are served in the order in which they began to wait. Tokens of one name
        grow strictly, across release, expiry and restart. Raises ValueError unless ``ttl`` is positive.
        """

    @abstractmethod
    async def renew(self, lease: Lease, ttl: float) -> Lease:
        """Let the lease end ``ttl`` seconds from now, under the same token. Raises LockLostError when it had ended."""

    @abstractmethod
    async def release(self, lease: Lease) -> bool:
        """Give the lock back; a waiter gets it at once. False when the lease had ended;
        another's lease is never touched.
        """

    @abstractmethod
    async def holder(self, name: str) -> Lease | None:
        """The unexpired lease on ``name``, or None. Already old when it returns: for people, not for decisions."""
