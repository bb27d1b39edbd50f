"""Processes that serve different types on one SQLite file, killed and replaced: each message runs once, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.parts import Book, Desk, make_app, order

from loom import Client
from loom.errors import NotRunningError, OutcomeUnknownError

pytestmark = pytest.mark.crash

HERE = Path(__file__).parent
PATIENCE = 60.0
KEYS = [f"k{n}" for n in range(8)]


@contextmanager
def host(file: Path, *parts: str) -> Iterator[subprocess.Popen[str]]:
    """A process that serves the parts; it is killed at the end, if not before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "workers" / "part_host.py"), str(file), *parts], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "parts.db"


@pytest.fixture
async def client(file: Path) -> AsyncIterator[Client]:
    async with make_app(str(file)).client(call_timeout=5.0) as client:
        yield client


class Posts:
    """Posts to every desk all the time, each under a key, again while its outcome is unknown."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.stopping = False
        self.posted = dict.fromkeys(KEYS, 0)
        self.tasks = [asyncio.ensure_future(self._post(key)) for key in KEYS]

    async def more(self, count: int) -> None:
        """Until every desk has posted ``count`` more."""
        wanted = {key: self.posted[key] + count for key in KEYS}
        async with asyncio.timeout(PATIENCE):
            while any(self.posted[key] < wanted[key] for key in KEYS):
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Stop, and see that every book holds what was posted, in order."""
        self.stopping = True
        await asyncio.gather(*self.tasks)
        async with asyncio.timeout(PATIENCE):
            for key in KEYS:
                while len(pages := await self._client.actor(Book, key).pages()) < self.posted[key]:
                    await asyncio.sleep(0.05)
                assert pages == list(range(self.posted[key])), key

    async def _post(self, key: str) -> None:
        turn = 0
        while not self.stopping:
            turn += 1
            while True:
                try:
                    self.posted[key] = await self._client.actor(Desk, key, idempotency_key=f"{key}-{turn}").post(3)
                    break
                except OutcomeUnknownError:
                    continue
                except NotRunningError:
                    return  # the test has failed already
            await asyncio.sleep(0.01)


async def test_the_only_host_of_a_type_is_killed_and_comes_back(file: Path, client: Client) -> None:
    with host(file, "desk"), host(file, "books") as books:
        posts = Posts(client)
        await posts.more(9)
        for _ in range(3):
            kill(books)
            await posts.more(9)
            with host(file, "books") as books_again:
                await posts.more(9)
                kill(books_again)
        with host(file, "books"):
            await posts.finish()


async def test_the_host_that_routes_is_killed_and_replaced(file: Path, client: Client) -> None:
    with host(file, "books"), host(file, "desk") as desk:
        posts = Posts(client)
        await posts.more(9)
        kill(desk)
        for _ in range(3):
            with host(file, "desk") as next_desk:
                await posts.more(9)
                kill(next_desk)
        with host(file, "desk"):
            await posts.more(9)
            await posts.finish()


async def test_a_rolling_deploy_with_kills(file: Path, client: Client) -> None:
    """Old hosts have the desk only, new ones both. While they change, the old ones die rather than stop."""
    with host(file, "desk") as first, host(file, "desk") as second:
        posts = Posts(client)
        await posts.more(9)
        with host(file, "desk", "books"):
            await posts.more(9)
            kill(first)
            with host(file, "desk", "books"):
                await posts.more(9)
                kill(second)
                await posts.more(9)
                await posts.finish()


async def test_runs_of_both_parts_get_through_kills_of_both(file: Path, client: Client) -> None:
    runs = [client.workflow(order, f"o{n}") for n in range(24)]

    async def through(n: int) -> None:
        while True:
            try:
                await runs[n].start(str(n))
                assert await runs[n].result(timeout=PATIENCE) == 2
                return
            except OutcomeUnknownError:
                continue

    with host(file, "desk") as desk, host(file, "books") as books:
        results = [asyncio.ensure_future(through(n)) for n in range(len(runs))]
        await asyncio.wait(results, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        kill(books)
        with host(file, "books"):
            kill(desk)
            with host(file, "desk"):
                await asyncio.wait_for(asyncio.gather(*results), PATIENCE)
