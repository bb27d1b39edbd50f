"""Locks that the kernel holds for a process and drops when it dies, however it dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["KERNEL_LOCKS", "FileLock", "exclusively"]

KERNEL_LOCKS = sys.platform != "win32"
"""Whether this platform has ``flock``."""

if sys.platform != "win32":
    import fcntl

    def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

else:
    import msvcrt

    def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False


class FileLock:
    """A lock on a file that may be deleted while others wait for it.

    Whoever gets the lock checks that the path still names the file that it locked, so a lock on a deleted file is
    never taken for one on its successor.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> FileLock | None:
        """Create the file if need be and lock it; None when another holds it and ``wait`` is False."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                if not _lock(descriptor, shared=False, wait=wait):
                    os.close(descriptor)
                    return None
                if _names(path, descriptor):
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    @staticmethod
    def held(path: Path) -> bool:
        """Whether anybody holds the lock now. Askers share their lock, so they never mistake each other for holders."""
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
            except FileNotFoundError:
                return False
            try:
                if not _lock(descriptor, shared=True, wait=False):
                    return True
                if _names(path, descriptor):
                    return False
            finally:
                os.close(descriptor)

    def release(self, *, delete: bool = False) -> None:
        """Drop the lock, with the file if wished; harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if delete:
                self.path.unlink(missing_ok=True)
            os.close(descriptor)

    def disown(self) -> None:
        """In a forked child: let go of the parent's lock, which stays the parent's."""
        self.release()


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Hold the lock on ``path``, waiting for it as long as it takes. Blocks the thread."""
    lock = FileLock.take(path, wait=True)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()
