"""``bank_host.py FILE [QUERY]``: hosts the bank on a SQLite file until SIGTERM or the end of stdin.

With ``BANK_PLAN=ROUNDS`` it also carries out the plan from within, and reports each acknowledgement before it goes on;
with ``BANK_STRICT=1`` any error of a call is reported as ``failed``. With ``BANK_READS=ACCOUNT`` it reads that account
from within all the time and reports each balance. ``BANK_OPTIONS`` holds runtime options as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from support.bank import Account, database_url, expected_turns, make_app, perform, plan

from loom import Loom


def report(event: str, **facts: Any) -> None:
    """One line, out of this process before anything else happens."""
    os.write(1, json.dumps({"event": event, **facts}).encode() + b"\n")


async def carry_out(app: Loom, rounds: int) -> None:
    """The plan, and then the end of what it has set going."""
    for operation in plan(rounds):
        try:
            result = await (operation.call(app) if os.environ.get("BANK_STRICT") else perform(app, operation))
        except Exception as error:
            report("failed", key=operation.key, error=repr(error))
            raise
        report("ack", key=operation.key, result=result)
    for account, turns in expected_turns(rounds).items():
        while await app.actor(Account, account).turns() < turns:
            await asyncio.sleep(0.02)
    report("done")


async def read_all_the_time(app: Loom, account: str) -> None:
    """Local reads, each reported."""
    while True:
        report("read", balance=await app.actor(Account, account).balance())
        await asyncio.sleep(0.02)


async def main(file: str, query: str = "") -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    threading.Thread(target=end_with_parent, daemon=True).start()
    options = json.loads(os.environ.get("BANK_OPTIONS", "{}"))
    tasks: list[asyncio.Task[None]] = []
    async with make_app(database_url(Path(file), query), **options) as app:
        report("ready", pid=os.getpid())
        if rounds := int(os.environ.get("BANK_PLAN", "0")):
            tasks.append(asyncio.create_task(carry_out(app, rounds)))
        if account := os.environ.get("BANK_READS"):
            tasks.append(asyncio.create_task(read_all_the_time(app, account)))
        await stop.wait()
        report("stopping")
    for task in tasks:
        task.cancel()
    report("stopped")


def end_with_parent() -> None:
    """The test holds the other end of stdin: when it is gone, whatever ended it, nobody needs this process."""
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
