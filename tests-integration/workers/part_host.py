"""``part_host.py FILE PART…``: hosts the named parts, ``books`` or ``desk``, on a SQLite file until stdin ends."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

from support.parts import make_app


def end_with_stdin() -> None:
    """The test holds the other end: when it is gone, whatever ended it, nobody needs this process."""
    sys.stdin.read()
    os._exit(3)


async def main(file: str, *parts: str) -> None:
    threading.Thread(target=end_with_stdin, daemon=True).start()
    async with make_app(file, *parts):
        print("ready", flush=True)
        forever: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await forever


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
