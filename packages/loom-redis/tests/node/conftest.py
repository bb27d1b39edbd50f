"""BullMQ's own package for Node: installed once from the committed lock file, and driven line by line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loom.testing.servers import npm_folder
from loom_redis.testing import RedisServer

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """A ``node_modules`` with bullmq, in the user's cache; without one the test is skipped, saying what to install."""
    try:
        return npm_folder(_HERE, "bullmq") / "node_modules"
    except RuntimeError as error:
        pytest.skip(str(error))


class NodeBull:
    """A process of Node with BullMQ."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    async def __call__(self, op: str, **given: Any) -> Any:
        """Run one operation of ``node/bull.cjs`` and return its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._number += 1
        self._process.stdin.write(json.dumps({"id": self._number, "op": op, **given}).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        assert line, f"Node ended during {op}"
        answer = json.loads(line)
        assert answer["id"] == self._number
        assert "error" not in answer, answer
        return answer["result"]

    async def kill(self) -> None:
        """SIGKILL: nothing is given back."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@pytest.fixture
def prefix(redis_url: str) -> str:
    """A prefix of BullMQ's keys that nobody has used."""
    return redis_url.partition("namespace=")[2]


@pytest.fixture
def start_node(
    node_modules: Path, redis_server: RedisServer, prefix: str
) -> Callable[[], AbstractAsyncContextManager[NodeBull]]:
    """Starts further processes of Node on the same queues."""
    return lambda: _node(node_modules, redis_server.port, prefix)


@pytest.fixture
async def node(start_node: Callable[[], AbstractAsyncContextManager[NodeBull]]) -> AsyncIterator[NodeBull]:
    """Node with BullMQ, on the server and prefix of the test."""
    async with start_node() as node:
        yield node


@asynccontextmanager
async def _node(modules: Path, port: int, prefix: str) -> AsyncIterator[NodeBull]:
    process = await asyncio.create_subprocess_exec(
        "node", str(_HERE / "bull.cjs"), str(port), prefix,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "NODE_PATH": str(modules)}, limit=1 << 24,
    )  # fmt: skip
    try:
        yield NodeBull(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        assert process.stdout is not None
        await process.stdout.read()  # lets the transport of the pipe close before the loop does
