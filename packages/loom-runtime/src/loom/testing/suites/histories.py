"""Histories of several processes, one of them killed: put together by the machine's clock, and checked as one."""

from __future__ import annotations

import asyncio
import base64
import pickle
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from ...ports.journal import Append, JournalStore
from ...ports.lock import LockManager
from ..linearizability import History, Operation, RecordingJournal, RecordingLocks, drive_journal, drive_locks
from .base import Harness
from .child import Child, report, run_child

__all__ = ["journal_histories", "lock_histories"]

_CLIENTS = 2
_CALLS = "80"
_KILLED_AFTER = 100
"""Lines that the process which is killed has reported by then."""
_START_SECONDS = 30.0
_GO = "go"


async def use_journal_and_report(store: JournalStore, name: str, calls: str) -> None:
    """Child: wait for the start, use two streams, and report every call when it begins and when it ends."""
    report("ready")
    async with asyncio.timeout(_START_SECONDS):
        while not await store.read(_GO):
            await asyncio.sleep(0.002)
    history = _reported()
    clients = [RecordingJournal(store, history, f"{name}, client {n}") for n in range(_CLIENTS)]
    await drive_journal(
        clients, ["s", "t"], seed=len(name), calls=int(calls), fencing=False, cancel=0.02, prefix=name
    )  # fmt: skip


async def use_locks_and_report(locks: LockManager, name: str, calls: str) -> None:
    """Child: wait for the start, use two locks, and report every call when it begins and when it ends."""
    report("ready")
    async with asyncio.timeout(_START_SECONDS):
        while await locks.holder(_GO) is not None:
            await asyncio.sleep(0.002)
    history = _reported()
    clients = [RecordingLocks(locks, history, f"{name}, client {n}") for n in range(_CLIENTS)]
    # Nobody waits for a lock: the process that is killed may hold it.
    await drive_locks(clients, ["l", "m"], seed=len(name), ttl=600.0, calls=int(calls), wait=False)


async def journal_histories(h: Harness[JournalStore]) -> list[Operation]:
    """What three processes did with two streams, of which the third was killed half way."""

    async def go() -> None:
        await h.adapter.append(Append(_GO, 0, "", "go", b""))

    return await _gather(h, use_journal_and_report, go)


async def lock_histories(h: Harness[LockManager]) -> list[Operation]:
    """What three processes did with two locks, of which the third was killed half way."""
    lease = await h.adapter.acquire(_GO, 36_000.0)
    assert lease is not None

    async def go() -> None:
        assert await h.adapter.release(lease)

    return await _gather(h, use_locks_and_report, go)


def _reported() -> History:
    def log(operation: Operation) -> None:
        report(base64.b64encode(pickle.dumps(operation)).decode())

    return History(time.time, tick=time.monotonic, log=log)


async def _gather(
    h: Harness[Any], script: Callable[..., Awaitable[None]], go: Callable[[], Awaitable[None]]
) -> list[Operation]:
    assert h.url is not None
    async with AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(run_child(script, h.adapter, h.url, name, _CALLS))
            for name in ("one", "second", "killed")
        ]
        for child in children:
            assert await child.read() == "ready"
        await go()
        lines = await asyncio.gather(children[0].rest(), children[1].rest(), _kill(children[2]))
        assert (children[0].returncode, children[1].returncode) == (0, 0)
    return [operation for one in lines for operation in _last_of_each(one[1:])]


async def _kill(child: Child) -> list[Any]:
    while len(child.lines) < _KILLED_AFTER and await child.read() is not None:
        pass
    return await child.kill()


def _last_of_each(lines: list[str]) -> list[Operation]:
    """A call that was reported when it ended counts as that, any other as one without an answer."""
    found: dict[Any, Operation] = {}
    for line in lines:
        operation: Operation = pickle.loads(base64.b64decode(line))
        found[operation.client, operation.key, operation.invoked, repr(operation.arguments)] = operation
    return list(found.values())
