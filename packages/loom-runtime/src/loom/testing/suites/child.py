"""The other process of a suite: ``python -m loom.testing.suites.child SCRIPT MODULE:CLASS [ARGS]``.

The URL comes in the environment, not among the arguments: those of a process are shown to everybody on the machine.

A script is an async function ``module:name`` called with the started adapter and the arguments. It reports what was
acknowledged as lines on standard output, so that a test can kill it and check that the store kept its word.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ...plugins.urls import AdapterContext, LoomURL
from ...ports.port import Port

__all__ = ["Child", "report", "run_child"]

_URL = "LOOM_TESTED_URL"


class Child:
    """A running child process: ``lines`` read so far, ``kill``, ``wait``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[Any] = []

    async def read(self) -> Any:
        """The next report, or None at the end of the output."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):  # cut off by the kill: it was never reported
            return None
        self.lines.append(json.loads(line))
        return self.lines[-1]

    async def rest(self) -> list[Any]:
        """Everything reported until the process ended."""
        while await self.read() is not None:
            pass
        await self._process.wait()
        return self.lines

    async def kill(self) -> list[Any]:
        """SIGKILL: no handler, no flush. Returns all that had been reported."""
        self._process.send_signal(signal.SIGKILL)
        return await self.rest()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode


@asynccontextmanager
async def run_child(
    script: Callable[..., Awaitable[None]], adapter: Port, url: str, *arguments: str
) -> AsyncIterator[Child]:
    """Run ``script`` in a process of its own on the data at ``url``; the process is killed at the end."""
    target = f"{type(adapter).__module__}:{type(adapter).__qualname__}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, f"{script.__module__}:{script.__qualname__}", target, *arguments,
        stdout=subprocess.PIPE, env=_environment(url), limit=1 << 24,
    )  # fmt: skip
    child = Child(process)
    try:
        yield child
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # Lets the transport of the pipe close before the loop does.
        await child.rest()


def report(value: Any) -> None:
    """Tell the parent; on the pipe before this returns."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _environment(url: str) -> dict[str, str]:
    # A parent that found the packages by its path hands that on; an installed one loses nothing by it.
    return {**os.environ, _URL: url, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _build(target: str, url: str) -> Port:
    adapter_class, context = _load(target), AdapterContext()
    adapter: Port
    if hasattr(adapter_class, "from_url"):
        adapter = adapter_class.from_url(LoomURL.parse(url), context)
    else:
        from ...plugins.registry import AdapterRegistry

        # One that is built over documents; the registry might know a better one for its port by now.
        documents = AdapterRegistry().open("documents", url, context)
        adapter = adapter_class(documents, clock=context.clock, owned=True)
    return adapter


async def _main(script: str, target: str, *arguments: str) -> None:
    async with _build(target, os.environ[_URL]) as adapter:
        await _load(script)(adapter, *arguments)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
