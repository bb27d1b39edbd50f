"""Members that live as long as they hold a file lock."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import weakref
from pathlib import Path

from ...errors import CoordinationError
from ..derived.liveness import Liveness
from ..file_lock import FileLock

__all__ = ["FileLockLiveness"]

_JOIN_SECONDS = 5.0


class FileLockLiveness(Liveness):
    """Each member holds a lock file in ``folder`` for its life; the kernel drops the lock with the process.

    So a killed process is known dead at once, and a paused one is alive: it has lost nothing and may go on.
    """

    ttl = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, FileLock] = {}
        if hasattr(os, "register_at_fork"):
            # A forked child would keep its parent's locks, and so its parent, alive.
            reference = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _disown(reference()))

    async def enter(self, member_id: str) -> None:
        if member_id in self._locks:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _JOIN_SECONDS
        # Somebody who asks whether this member lives holds the lock for a moment: that is no reason to give up.
        while (lock := FileLock.take(self._path(member_id))) is None:
            if time.monotonic() > deadline:
                raise CoordinationError(
                    f"another running process is member {member_id} of this fleet; member ids must differ",
                    member=member_id,
                )
            await asyncio.sleep(0.002)
        if member_id in self._locks:
            lock.release()
        else:
            self._locks[member_id] = lock

    async def leave(self, member_id: str) -> None:
        lock = self._locks.pop(member_id, None)
        if lock is not None:
            lock.release(delete=True)

    async def forget(self, member_id: str) -> None:
        lock = FileLock.take(self._path(member_id))
        if lock is not None:
            lock.release(delete=True)

    async def close(self) -> None:
        locks, self._locks = self._locks, {}
        for lock in locks.values():
            lock.release()

    async def dead(self, seen: dict[str, float]) -> set[str]:
        return {m for m in seen if m not in self._locks and not FileLock.held(self._path(m))}

    def _path(self, member_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(member_id.encode()).hexdigest()}.lock"


def _disown(liveness: FileLockLiveness | None) -> None:
    if liveness is not None:
        locks, liveness._locks = liveness._locks, {}
        for lock in locks.values():
            lock.disown()
