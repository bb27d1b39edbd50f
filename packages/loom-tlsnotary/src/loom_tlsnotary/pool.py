"""A bounded pool of threads that open presentations, off the event loop, and the clock that can stop them."""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import wasmtime

from .instance import Instance
from .limits import Limits
from .opened import Opened
from .releases import Release

__all__ = ["Pool"]

_TICK = 0.1


class Pool:
    """``workers`` proofs at once, the others in line. Threads do: wasmtime lets go of the interpreter while it works.

    A call that is cancelled leaves the line; one whose proof has begun is left at once, and the proof itself ends
    within its limits.
    """

    def __init__(
        self, engine: wasmtime.Engine, module: wasmtime.Module, release: Release, limits: Limits, workers: int
    ) -> None:
        self._engine = engine
        self._module = module
        self._release = release
        self._limits = limits
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="loom-tlsnotary")
        self._epochs = _Epochs(engine)

    async def open(self, presentation: bytes) -> Opened:
        """See ``Instance.open``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, presentation)

    def _run(self, presentation: bytes) -> Opened:
        ticks = math.ceil(self._limits.seconds / _TICK) + 1
        with (
            self._epochs,
            Instance(self._engine, self._module, self._release, self._limits, ticks) as instance,
        ):
            return instance.open(presentation)

    async def close(self) -> None:
        """Wait for the proofs under way and in line."""
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._epochs.close)


class _Epochs:
    """Counts the engine's epoch up while anybody is within ``with epochs:``; rests otherwise."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._busy = 0
        self._closed = False
        self._thread = threading.Thread(target=self._count, name="loom-tlsnotary-epochs", daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        with self._changed:
            self._busy += 1
            if self._busy == 1:
                self._changed.notify_all()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._busy -= 1

    def _count(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._closed or self._busy > 0)
                if not self._changed.wait_for(lambda: self._closed, _TICK):
                    self._engine.increment_epoch()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
