"""Workers: processes of a test that report by lines of JSON, and may be killed, paused or stopped."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

__all__ = ["PATIENCE", "Worker", "eventually"]

HERE = Path(__file__).parent.parent
PATIENCE = float(os.environ.get("BANK_PATIENCE", "60"))
"""How long a test waits for what must happen, in seconds: long enough for a machine that is busy with other things."""


class Worker:
    """A running worker. Each line that it prints is a JSON object; ``events`` holds those that came so far."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.process = process
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self._news = asyncio.Condition()
        self._readers = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._read_errors())]

    @classmethod
    async def start(cls, script: str, *arguments: str, crash_at: str = "", **environment: str) -> Worker:
        """Start ``workers/<script>.py``. ``crash_at`` is ``LOOM_CRASH_AT``;
        other keywords are environment variables.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOM_")}
        path = os.pathsep.join(filter(None, [str(HERE), inherited.get("PYTHONPATH", "")]))
        extra = {"LOOM_CRASH_AT": crash_at} if crash_at else {}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "workers" / f"{script}.py"), *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**inherited, "PYTHONPATH": path, **extra, **environment},
        )  # fmt: skip
        return cls(process, script)

    @classmethod
    @asynccontextmanager
    async def running(cls, script: str, *arguments: str, ready: bool = True, **rest: str) -> AsyncIterator[Worker]:
        """A worker for the length of a block, killed at its end if it still runs then."""
        worker = await cls.start(script, *arguments, **rest)
        try:
            if ready:
                await worker.event("ready")
            yield worker
        finally:
            if worker.process.returncode is None:
                worker.process.kill()
            await worker.ended()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this worker alone."""
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait until the kernel has buried it."""
        self.process.kill()
        assert await self.ended() == -signal.SIGKILL, self.errors

    async def stop(self) -> None:
        """SIGTERM; the worker must drain and end well."""
        self.process.terminate()
        assert await self.ended() == 0, self.errors

    async def ended(self) -> int:
        """Wait for the end; the return code. Everything that it had reported is in ``events`` then."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._readers)
            return await self.process.wait()

    def reported(self, event: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        return [found for found in self.events if found["event"] == event]

    async def event(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for the ``count``-th event of that name. AssertionError with its stderr when the worker ends before."""
        async with asyncio.timeout(PATIENCE), self._news:
            while len(self.reported(event)) < count:
                if self._readers[0].done():
                    raise AssertionError(f"{self.name} ended without {event!r}:\n{self.errors}")
                await self._news.wait()
        return self.reported(event)[count - 1]

    async def say(self, line: str) -> None:
        """Write a line to the worker's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                async with self._news:
                    self.events.append(json.loads(line))
                    self._news.notify_all()
        finally:
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, self._tell())

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.errors += line.decode(errors="replace")


async def eventually(wrong: Callable[[], Any], what: str) -> None:
    """Poll until ``wrong()``, awaited if need be, has nothing to say any more.

    Fails after PATIENCE with what it last said.
    """
    until = asyncio.get_running_loop().time() + PATIENCE
    while True:
        found = wrong()
        if inspect.isawaitable(found):
            found = await found
        if not found:
            return
        if asyncio.get_running_loop().time() > until:
            raise AssertionError(f"{what} did not come true within {PATIENCE:g} s: {found!r}")
        await asyncio.sleep(0.03)
