"""A clock that jumps: when nothing but time is waited for, it goes to the next moment at which something happens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import LoomError
from ..ports import MessageQueue
from ..runtime.commands import Step
from ..runtime.messages import mailbox_queue
from ..runtime.run_cell import RunCell
from .clock import ManualClock

if TYPE_CHECKING:
    from ..app import Loom
    from ..runtime.host import Host

__all__ = ["NothingDueError", "VirtualClock"]

T = TypeVar("T")

_HOUSEKEEPING = frozenset(
    {"loom placement", "loom inbox", "loom leases", "loom sweeper", "loom timers", "loom replies"}
)
"""Tasks of the runtime that sleep for ever anew: their sleeps are no reason to stop on the way."""
_TICK = 0.001
_SETTLING = 100_000
_QUIET = 0.05
_PATIENCE = 0.25
_ASKING = 5.0
_IDLE_TICKS = 120
"""With nothing due that we know of, so many seconds are tried: what an adapter holds back for later comes by then."""


class NothingDueError(AssertionError):
    """What was waited for does not come by the passing of time. The message says what every run waits for."""


class VirtualClock(ManualClock):
    """A ManualClock that can advance by itself, in ``run_until`` and ``run_for``.

    Give it to the app, and the app to it: ``Loom(…, clock=clock)``, then ``clock.watch(app)``; ``memory_app`` and the
    fixture ``loom_app`` do both. Steps and handlers run in real time, and while one runs the clock stands.
    """

    def __init__(self, start: float | None = None) -> None:
        super().__init__(start)
        self._apps: list[Loom] = []
        self._wanted: dict[int, float] = {}
        self._tokens = itertools.count()

    def watch(self, app: Loom) -> None:
        """Jump to what ``app`` has planned, too. An app that has stopped is passed over."""
        self._apps.append(app)

    async def sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        if seconds <= 0 or task is None or _keeps_house(task):
            await super().sleep(seconds)
            return
        token = next(self._tokens)
        self._wanted[token] = self.monotonic() + seconds
        try:
            await super().sleep(seconds)
        finally:
            del self._wanted[token]

    async def run_until(self, awaitable: Awaitable[T], *, timeout: float = 30.0) -> T:
        """The result of ``awaitable``, with the clock jumping from one due time to the next for as long as it takes.

        Raises NothingDueError when only a signal or somebody's call could help, or after ``timeout`` seconds of real
        time; ``awaitable`` is cancelled then.
        """
        task = asyncio.ensure_future(awaitable)
        try:
            await self._run(task, None, timeout)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        return task.result()

    async def run_for(self, seconds: float, *, timeout: float = 30.0) -> None:
        """Let ``seconds`` pass, stopping at everything due on the way. Raises NothingDueError as ``run_until`` does."""
        await self._run(None, self.now() + seconds, timeout)

    async def _run(self, task: asyncio.Future[Any] | None, until: float | None, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        began = quiet_since = loop.time()
        jumps = idle = 0
        while True:
            if await _settle(task):
                quiet_since = loop.time()
            if task is not None and task.done():
                return
            if until is not None and self.now() >= until and not self._at_work():
                return
            if loop.time() - began > timeout:
                why = "a step or handler runs, and time stands meanwhile" if self._at_work() else f"{jumps} jumps"
                raise NothingDueError(await self._report(f"not there after {timeout:g} s of real time: {why}"))
            quiet = loop.time() - quiet_since
            if self._at_work() and not (self._wanted and quiet > _QUIET):
                await asyncio.sleep(_TICK)
                continue
            due = await self._next_due()
            if until is not None:
                due = until if due is None else min(due, until)
            if due is None and idle < _IDLE_TICKS:
                idle += 1
                due = self.now() + 1.0
            elif due is None:
                if quiet < _PATIENCE:  # something outside of the runtime may still be on its way
                    await asyncio.sleep(_TICK)
                    continue
                raise NothingDueError(await self._report("no timer is due, and nothing runs: it would wait for ever"))
            else:
                idle = 0
            self._jump(due)
            jumps += 1
            quiet_since = loop.time()

    def _jump(self, due: float) -> None:
        # A little later than due: the sums of the sleepers and ours round differently.
        self.advance(max(0.0, due - self.now()) + _TICK)

    async def _next_due(self) -> float | None:
        """The next moment at which something happens that is not housekeeping."""
        now, ahead = self.now(), []
        for host in self._hosts():
            if host.inbox.outstanding or await _held_back(host):
                return now + 1.0  # leases must be renewed, and a delayed message must not be overtaken
            if (due := host.timers.next_due) is not None and due < _NEVER:
                ahead.append(due)
        ahead += [now + due - self.monotonic() for due in self._wanted.values()]
        return min(ahead, default=None)

    def _at_work(self) -> bool:
        """Whether a step or a handler runs, and does not itself sleep by this clock."""
        at_work = sum(host.turns_running + len(_steps(host)) for host in self._hosts())
        return at_work > len(self._wanted)

    def _hosts(self) -> Iterator[Host]:
        for app in self._apps:
            if (host := app._host) is not None and not host.stopping:
                yield host

    async def _report(self, why: str) -> str:
        lines = [why]
        for app in self._apps:
            if app._client is None:
                continue
            for run in await app.calls.runs(status="running"):
                try:
                    async with asyncio.timeout(_ASKING):
                        status = await app.calls.run(run.workflow, run.run_id).status()
                    waits = "; ".join(status.waiting_for) or "nothing that is known"
                except (LoomError, TimeoutError) as error:
                    waits = f"no answer ({error!r})"
                lines.append(f"  {run.workflow}/{run.run_id} waits for: {waits}")
        return "\n".join([*lines, *(["  no run is under way"] if len(lines) == 1 else [])])


_NEVER = 4_000_000_000.0
_SLEEP: CodeType = VirtualClock.sleep.__code__


def _keeps_house(task: asyncio.Task[Any]) -> bool:
    # A task that is nothing but our sleep is one side of an adapter's wait for either a message or a moment.
    coroutine = task.get_coro()
    return task.get_name() in _HOUSEKEEPING or getattr(coroutine, "cr_code", None) is _SLEEP


def _steps(host: Host) -> list[Step]:
    cells = [cell for cell in host.cells.values() if isinstance(cell, RunCell) and cell.execution is not None]
    return [
        command
        for cell in cells
        if cell.execution is not None
        for position, command in cell.execution.waiting.items()
        if isinstance(command, Step) and position in cell.work.tasks
    ]


async def _held_back(host: Host) -> bool:
    queue: MessageQueue = host.queue
    for shard in list(host.placement.epochs):
        if (await queue.depth(mailbox_queue(shard))).delayed:
            return True
    return False


async def _settle(task: asyncio.Future[Any] | None) -> bool:
    """Let everything run that can; whether anything did."""
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    calm = 0
    for turn in range(_SETTLING if ready is not None else 100):
        if task is not None and task.done():
            return True
        await asyncio.sleep(0)
        calm = calm + 1 if not ready else 0
        if calm == 3 and ready is not None:
            return turn > 2
    return ready is not None
