"""``bank_host.py URL``: hosts the bank at a URL, or where the loom.toml at that path says, until SIGTERM or the end of
stdin.

With ``BANK_PLAN=ROUNDS`` it also carries out the plan from within, and reports each acknowledgement before it goes on;
with ``BANK_STRICT=1`` any error of a call is reported as ``failed``. ``BANK_OPTIONS`` holds runtime options and
``BANK_URLS`` the URLs of single ports, as JSON.
The line ``read ACCOUNT`` on stdin makes it read that account from within all the time and report each balance; after
the line ``full`` no file takes another byte of this process, until the line ``space``.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from support.bank import Account, expected_turns, make_app, perform, plan

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


async def obey(app: Loom, told: asyncio.Queue[str]) -> None:
    """What comes on stdin."""
    while True:
        line = await told.get()
        if line in ("full", "space"):
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0 if line == "full" else hard, hard))
            report(line)
        else:
            await read_all_the_time(app, line.removeprefix("read "))


async def read_all_the_time(app: Loom, account: str) -> None:
    """Local reads, each reported."""
    while True:
        report("read", balance=await app.actor(Account, account).balance())
        await asyncio.sleep(0.02)


async def main(url: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    told: asyncio.Queue[str] = asyncio.Queue()
    threading.Thread(
        target=listen, args=(lambda line: loop.call_soon_threadsafe(told.put_nowait, line),), daemon=True
    ).start()
    options = json.loads(os.environ.get("BANK_OPTIONS", "{}"))
    tasks: list[asyncio.Task[None]] = []
    async with make_app(url, json.loads(os.environ.get("BANK_URLS", "{}")), **options) as app:
        report("ready", pid=os.getpid())
        if rounds := int(os.environ.get("BANK_PLAN", "0")):
            tasks.append(asyncio.create_task(carry_out(app, rounds)))
        tasks.append(asyncio.create_task(obey(app, told)))
        await stop.wait()
        report("stopping")
    for task in tasks:
        task.cancel()
    report("stopped")


def listen(take: Callable[[str], object]) -> None:
    """The test holds the other end of stdin: when it is gone, whatever ended it, nobody needs this process."""
    for line in sys.stdin:
        take(line.strip())
    os._exit(3)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
