"""One SQLite file shared by the adapters of a URL: group commit on one writer thread, reads beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from ...errors import LoomError, StoreUnavailableError
from ...plugins.urls import AdapterContext, LoomURL

__all__ = ["Database", "database_from_url"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
GroupedWork = Callable[[sqlite3.Connection, list[Any]], list[Any]]

_POLL_SECONDS = 0.01
_QUICK_SECONDS = 0.001
"""A transaction on the event loop holds up everything else for as long as it takes: only a disk this quick may."""
_LOCK_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.05, 0.1)


class Database:
    """A SQLite file in WAL mode.

    ``write`` runs functions in the order in which they were submitted; those waiting at the same moment share one
    transaction and so one fsync. A function that raises fails alone: the batch is rolled back and its functions are
    run again, each in a transaction of its own. ``read`` runs on another connection and sees every write reported
    before. Several processes may open one file; their transactions exclude each other.

    While commits take less than ``quick_commit`` seconds, writes that ask for it run on the event loop (0: never).

    ``start`` and ``close`` are counted, so every adapter of the file calls both.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: str = "FULL",
        busy_timeout: float = 30.0,
        quick_commit: float = _QUICK_SECONDS,
    ) -> None:
        if synchronous.upper() not in ("OFF", "NORMAL", "FULL", "EXTRA"):
            raise ValueError(f"synchronous={synchronous!r}: use FULL (default), EXTRA, NORMAL or OFF")
        self.path = Path(path)
        self.synchronous = synchronous.upper()
        self.busy_timeout = busy_timeout
        self.quick_commit = quick_commit
        self._users = 0
        self._writer: _Worker | None = None
        self._reader: _Worker | None = None
        self._version = 0
        self._poller: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Open the file, creating it if need be. Raises StoreUnavailableError naming the file and the reason."""
        self._users += 1
        if self._writer is not None:
            return
        try:
            self._writer = _Worker(self._connect, transaction="BEGIN IMMEDIATE", done=self._notify, path=self.path,
                                   patience=self.busy_timeout, quick=self.quick_commit)  # fmt: skip
            self._reader = _Worker(self._connect, transaction="BEGIN", done=None, path=self.path)
            self._version = self._writer.version_here() or 0
        except BaseException:
            self._users -= 1
            await self._shut()
            raise

    async def close(self) -> None:
        """Close the file after the last user's ``close``; functions already submitted are finished first."""
        self._users = max(0, self._users - 1)
        if self._users == 0:
            await self._shut()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction; return when it is durable.

        ``work`` may be run more than once before it is reported, always on a connection where nothing of an earlier
        run remains. A cancelled caller leaves the work to finish whole. Raises StoreUnavailableError, with
        ``unknown=True`` only when the commit itself failed.
        """
        if self._writer is None:
            raise StoreUnavailableError(f"{self.path} is not open; call start() first", path=str(self.path))
        result: T = await self._writer.submit(work)
        return result

    async def write_grouped(
        self, work: Callable[[sqlite3.Connection, list[Item]], list[Outcome]], item: Item, *, at_once: bool = False
    ) -> Outcome:
        """Like ``write``, but ``work`` is called once for all items that wait with it, and returns an outcome for each.

        Items keep their order; the group runs where its first item stood among the other functions of the
        transaction. For hot paths: one statement can then serve many callers, and waiters of ``changed`` in this
        process are not woken for it. ``at_once`` gives it to an idle writer without waiting for others of the moment,
        for callers that have collected those themselves; while the disk is quick and nobody else is writing, it is
        even run on the spot, which saves the way to the writer's thread and back.
        """
        if self._writer is None:
            raise StoreUnavailableError(f"{self.path} is not open; call start() first", path=str(self.path))
        if at_once and (outcome := self._writer.try_here(work, item)) is not _NOT_HERE:
            if isinstance(outcome, _Failure):
                raise outcome.error
            return cast(Outcome, outcome)
        result: Outcome = await self._writer.submit(work, item, at_once)
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on a snapshot that holds every write reported before this call."""
        if self._reader is None:
            raise StoreUnavailableError(f"{self.path} is not open; call start() first", path=str(self.path))
        result: T = await self._reader.submit(work)
        return result

    async def facts(self) -> dict[str, str]:
        """The file, SQLite's version, the settings in force and the room left on its disk, for people."""

        def ask(connection: sqlite3.Connection) -> dict[str, str]:
            pragmas = ("journal_mode", "synchronous", "page_size", "wal_autocheckpoint")
            return {name: str(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in pragmas}

        found = await self.read(ask)
        levels = ("OFF", "NORMAL", "FULL", "EXTRA")
        found["synchronous"] = levels[int(found["synchronous"])]
        size, free = self.path.stat().st_size, shutil.disk_usage(self.path.parent).free
        return {
            "file": f"{self.path} ({size / 1024**2:.1f} MiB, {free / 1024**3:.1f} GiB free on its disk)",
            "sqlite": sqlite3.sqlite_version,
            "pragmas": ", ".join(f"{name}={value}" for name, value in found.items()),
        }

    async def create(self, schema: Sequence[str]) -> None:
        """Run ``CREATE … IF NOT EXISTS`` statements in one transaction."""

        def work(connection: sqlite3.Connection) -> None:
            for statement in schema:
                connection.execute(statement)

        await self.write(work)

    async def changed(self, timeout: float) -> bool:
        """Wait until any process commits to the file, or ``timeout`` seconds; say whether it did.

        Begin to wait before looking at the data: ``waiter = asyncio.ensure_future(db.changed(…))``, look, await.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = loop.create_task(self._poll())
        try:
            await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _poll(self) -> None:
        """Look for commits of others. The writer's own connection is asked, since its own commits don't count there."""
        while self._waiters and self._writer is not None:
            version = self._writer.version_here()
            if version is None:
                version = await self._writer.submit(_data_versions, None)  # as a group: it wakes nobody by itself
            if version != self._version:
                self._version = version
                self._notify()
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=self.busy_timeout,
                cached_statements=256,
            )  # fmt: skip
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            connection.execute("PRAGMA cache_size=-16384")
            connection.execute("PRAGMA temp_store=MEMORY")
        except sqlite3.Error as error:
            raise _unavailable(self.path, error) from error
        return connection

    async def _shut(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None
        self._notify()
        for worker in (self._writer, self._reader):
            if worker is not None:
                await worker.close()
        self._writer = self._reader = None


_NOT_HERE: Any = object()
"""What ``try_here`` says when the thread has to do it."""

_ALONE: Any = object()
"""The item of a function that is called for itself and not for a group."""

_NOBODY: Any = None

_Job = tuple[Any, Any, asyncio.Future[Any]]
"""A function, its item, and who waits for the outcome."""


class _Worker:
    """A connection on its own thread. Functions submitted while it is busy make up its next transaction.

    With ``patience`` the connection never waits for another process's lock; the thread does, for so many seconds.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        transaction: str,
        done: Callable[[], None] | None,
        path: Path,
        patience: float | None = None,
        quick: float = 0.0,
    ) -> None:
        self._connection = connect()
        if patience is not None:
            self._connection.execute("PRAGMA busy_timeout=0")
        self._patience = patience or 0.0
        self._quick = quick
        self._seconds = quick
        self._transaction = transaction
        self._done = done
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Job] = []
        self._busy = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._batches: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"loom-sqlite {path.name}", daemon=True)
        self._thread.start()

    def submit(self, work: Work | GroupedWork, item: Any = _ALONE, at_once: bool = False) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailableError(f"{self._path} is closed", path=str(self._path)))
            return future
        self._waiting.append((work, item, future))
        if not self._busy:
            self._busy = True
            self._idle.clear()
            if at_once:
                self._dispatch()
            else:
                self._loop.call_soon(self._dispatch)
        return future

    def try_here(self, work: GroupedWork, item: Any) -> Any:
        """Run a transaction of one on this thread; _NOT_HERE when another runs, waits, or the disk is too slow.

        A quick estimate is needed to begin with, so the thread's transactions set it, and so does each of these.
        """
        if self._busy or self._waiting or self._closed or self._seconds >= self._quick:
            return _NOT_HERE
        outcomes = self._transact([(work, item, _NOBODY)], alone=True, patience=0.0)
        return _NOT_HERE if outcomes is None else outcomes[0]

    def version_here(self) -> int | None:
        """A number that changes with every commit of another connection; None when the thread has the connection."""
        return None if self._busy or self._closed else _data_version(self._connection)

    async def close(self) -> None:
        self._closed = True
        await self._idle.wait()
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _dispatch(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            self._batches.put(batch)
        else:
            self._busy = False
            self._idle.set()

    def _finish(self, batch: list[_Job], outcomes: list[Any]) -> None:
        loud = False
        for (_, item, future), outcome in zip(batch, outcomes, strict=True):
            loud = loud or item is _ALONE
            if future.done():
                continue
            if isinstance(outcome, _Failure):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)
        if self._done is not None and loud:
            self._done()
        # Behind the tasks just woken: what they submit next joins the next transaction instead of waiting for it.
        self._loop.call_soon(self._dispatch)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            outcomes = self._transact(batch)
            if outcomes is None:
                outcomes = [(self._transact([job], alone=True) or [None])[0] for job in batch]
            self._loop.call_soon_threadsafe(self._finish, batch, outcomes)

    def _transact(self, batch: list[_Job], *, alone: bool = False, patience: float | None = None) -> list[Any] | None:
        """The outcomes; None when one of several failed and each must be tried alone, or the lock was not free."""
        connection, committing = self._connection, False
        try:
            if not self._begin(self._patience if patience is None else patience):
                return None
            outcomes = _run_all(connection, batch)
            committing, began = True, time.perf_counter()
            connection.execute("COMMIT")
            # The last few count most: a disk that slows down is noticed after a handful of transactions.
            self._seconds += (time.perf_counter() - began - self._seconds) / 8
            return outcomes
        except Exception as error:
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as rollback_error:
                error.add_note(f"and the rollback failed: {rollback_error}")
            if not alone and not committing and len(batch) > 1:
                return None
            if isinstance(error, sqlite3.Error):
                failure: Exception = _unavailable(self._path, error, unknown=committing)
                failure.__cause__ = error
            else:
                failure = error
            return [_Failure(failure)] * len(batch)

    def _begin(self, patience: float) -> bool:
        """Begin a transaction; False when the lock was not free and nobody wanted to wait for it."""
        until, pauses = time.monotonic() + patience, iter(_LOCK_PAUSES)
        while True:
            try:
                self._connection.execute(self._transaction)
                return True
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if patience == 0.0:
                    return False
                if time.monotonic() >= until:
                    raise
            time.sleep(next(pauses, _LOCK_PAUSES[-1]))


def _run_all(connection: sqlite3.Connection, batch: list[_Job]) -> list[Any]:
    if len(batch) == 1:
        [(work, item, _)] = batch
        return [work(connection)] if item is _ALONE else work(connection, [item])
    outcomes: list[Any] = [None] * len(batch)
    groups: dict[Any, list[int]] = {}
    for index, (work, item, _) in enumerate(batch):
        if item is not _ALONE:
            groups.setdefault(work, []).append(index)
    for index, (work, item, _) in enumerate(batch):
        if item is _ALONE:
            outcomes[index] = work(connection)
        elif (members := groups.pop(work, None)) is not None:
            results = work(connection, [batch[member][1] for member in members])
            for member, result in zip(members, results, strict=True):
                outcomes[member] = result
    return outcomes


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _data_versions(connection: sqlite3.Connection, items: list[None]) -> list[int]:
    return [_data_version(connection)] * len(items)


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _unavailable(path: Path, error: sqlite3.Error, *, unknown: bool = False) -> LoomError:
    reason = str(error)
    remedy = "check that the file and its folder are on a working disk"
    if "readonly" in reason or (path.exists() and not os.access(path, os.W_OK)):
        remedy = "the file or its folder is read-only; give this process write permission to both"
    elif "full" in reason:
        remedy = "the disk is full; free space, nothing that was acknowledged is lost"
    elif "unable to open" in reason:
        remedy = f"the folder {path.parent} must exist and be writable"
    elif "locked" in reason or "busy" in reason:
        remedy = "another process holds the write lock for too long"
    elif "not a database" in reason or "malformed" in reason:
        remedy = "the file is damaged or not SQLite; restore it from a backup, nothing in it was changed"
    return StoreUnavailableError(f"{path}: {reason}; {remedy}", unknown=unknown, path=str(path))


def database_from_url(url: LoomURL, context: AdapterContext) -> Database:
    """The database of a ``sqlite://`` URL, one per context and file.

    ``sqlite:///loom.db`` is relative to the working folder, ``sqlite:////var/lib/loom.db`` absolute.
    ``?synchronous=FULL|EXTRA|NORMAL|OFF`` (default FULL) and ``?busy_timeout=SECONDS`` (default 30).
    """
    path = Path(url.path.removeprefix("/") or "loom.db").absolute()
    if not context.create and not path.exists():
        raise StoreUnavailableError(f"there is no {path}: no app has run here, or LOOM_URL is another", path=str(path))
    synchronous = url.query.get("synchronous", "FULL")
    timeout = float(url.query.get("busy_timeout", "30"))
    return context.shared(f"sqlite:{path}", lambda: Database(path, synchronous=synchronous, busy_timeout=timeout))
