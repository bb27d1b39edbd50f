"""``python -m loom.demo.worker URL PLAN``: the process that does the demo's work, and is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading

from .flow import make_app, read_folder
from .steps import load_plan


async def work(url: str, plan: str) -> None:
    """Host the app until the plan's run has ended."""
    async with make_app(url) as app:
        # Starting a run that exists gives that run, so the second process does what the first did.
        run = await app.workflow(read_folder, load_plan(plan).run).start(plan)
        await run.result()


def _end_with_parent() -> None:
    """The parent holds the other end of stdin: when it is gone, whatever ended it, nobody waits for this process."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(work(*sys.argv[1:]))
