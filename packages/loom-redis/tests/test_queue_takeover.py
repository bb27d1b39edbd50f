"""A taken queue's messages go to who took it, though its last reader still waits there, paused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loom.plugins import AdapterContext, LoomURL
from loom.ports import OutgoingMessage
from loom_redis.queue import RedisMessageQueue


@contextmanager
def paused_reader(url: str, queue: str) -> Iterator[None]:
    """Somebody who has leased what was in the queue, waits for more, and does not get to run from then on."""
    asleep, woken = threading.Event(), threading.Event()

    async def read() -> None:
        reader = opened(url)
        await reader.start()
        assert len(await reader.receive([queue], limit=5, lease=30)) == 1
        waiting = asyncio.ensure_future(reader.receive([queue], limit=5, lease=30, wait=20))
        while not (await reader._redis.call("HLEN", reader._redis.key("q", "", "waiters"))):
            await asyncio.sleep(0.01)
        asleep.set()
        woken.wait(30)
        waiting.cancel()
        await asyncio.wait([waiting])
        await reader.close()

    thread = threading.Thread(target=lambda: asyncio.run(read()))
    thread.start()
    try:
        assert asleep.wait(10)
        yield
    finally:
        woken.set()
        thread.join()


def opened(url: str) -> RedisMessageQueue:
    return RedisMessageQueue.from_url(LoomURL.parse(url), AdapterContext())


async def test_what_a_paused_reader_had_and_what_comes_later_go_to_its_successor(redis_url: str) -> None:
    queue = opened(redis_url)
    await queue.start()
    await queue.send(OutgoingMessage(queue="q", id="1", body=b"1"))
    with paused_reader(redis_url, "q"):
        assert await queue.end_leases(["q"]) == 1
        assert [delivery.id for delivery in await queue.receive(["q"], limit=5)] == ["1"]
        await queue.send(OutgoingMessage(queue="q", id="2", body=b"2"))
        assert [delivery.id for delivery in await queue.receive(["q"], limit=5)] == ["2"]
    await queue.close()


async def test_a_successor_that_waits_already_is_told(redis_url: str) -> None:
    queue = opened(redis_url)
    await queue.start()
    await queue.send(OutgoingMessage(queue="q", id="1", body=b"1"))
    with paused_reader(redis_url, "q"):
        waiting = asyncio.ensure_future(queue.receive(["q"], limit=5, wait=20))
        await asyncio.sleep(0.2)
        assert await queue.end_leases(["q"]) == 1
        async with asyncio.timeout(5):
            assert [delivery.id for delivery in await waiting] == ["1"]
    await queue.close()
