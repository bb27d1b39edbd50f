"""A redis-server that is killed, cut off or full under load: nothing acknowledged is lost, all go on by themselves."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.bank import Account, Operation, perform
from support.fleet import hosts, shared_out
from support.load import Load
from support.places import MEMBER_TTL, UrlPlace
from support.process import eventually

from loom import Client
from loom.errors import LoomError, OutcomeUnknownError, StoreUnavailableError
from loom_redis.proxy import LossyProxy
from loom_redis.testing import RedisServer

pytestmark = pytest.mark.crash


@asynccontextmanager
async def own_server(folder: Path, **options: object) -> AsyncIterator[tuple[RedisServer, UrlPlace]]:
    """A server for one test, which may harm it."""
    with RedisServer(folder, appendfsync="always") as server:
        async with UrlPlace.of(f"{server.url}?member_ttl={MEMBER_TTL}", **options) as place:
            yield server, place


async def test_redis_killed_under_load_comes_back_from_its_file(tmp_path: Path) -> None:
    """Four times SIGKILL; the hosts and clients are left alone. What had been acknowledged is in the file."""
    async with (
        own_server(tmp_path / "redis", crash_attempts=1000) as (server, place),
        hosts(place, 2) as (one, two),
        Load(place, careful=True) as load,
    ):
        for away in (0.0, 0.5, 2 * MEMBER_TTL, 0.0):
            await load.more(100)
            server.kill()
            await asyncio.sleep(away)
            server.start()
            journal = await place.journal()
            lost = [key for name, keys in load.answers.items() for key in keys if key not in journal.keys(name)]
            assert not lost, f"acknowledged and lost: {lost}"
        await load.more(2, load.accounts)
        await load.finish()
        await one.stop()
        await two.stop()
        (await place.journal()).settled()
        print(f"\n{load.count} calls; {len(load.errors)} had an unknown outcome and were repeated")


async def test_redis_paused_for_longer_than_leases_last(redis_place: UrlPlace, tmp_path: Path) -> None:
    """Nobody could show a sign of life meanwhile; no call fails, and the shares are as before."""
    async with own_server(tmp_path / "redis") as (server, place), hosts(place, 2) as workers, Load(place) as load:
        await load.more(100)
        server.pause()
        await asyncio.sleep(2 * MEMBER_TTL)
        server.go_on()
        await load.more(2, load.accounts)
        await eventually(lambda: shared_out(place.url, workers), "both own shards")
        await load.finish()


async def test_replies_lost_in_the_middle_of_scripts(redis_place: UrlPlace) -> None:
    """The server runs a script of a host or a client, and the connection ends with the reply's first byte: 60 times."""
    port = int(redis_place.url.partition("127.0.0.1:")[2].partition("/")[0])
    async with LossyProxy(port) as proxy:
        through = UrlPlace(redis_place.reading, redis_place.url.replace(f":{port}/", f":{proxy.port}/"))
        async with through.host(), redis_place.host(), Load(redis_place) as load, Load(through, prefix="cut") as cut:
            await load.more(50)
            await cut.more(50)
            for n in range(60):
                # By turns any script, and one that appends to the journal: its keys begin with this.
                proxy.lose_reply_to(b":journal:" if n % 2 else b"EVALSHA")
                lost = proxy.lost
                await eventually(lambda lost=lost: proxy.lost == lost, "a reply is lost")
                await asyncio.sleep(0.05)
            for one in (load, cut):
                await one.more(2, one.accounts)
            await asyncio.gather(load.finish(), cut.finish())
            print(f"\n{proxy.lost} replies lost, {load.count} and {cut.count} calls, slowest {cut.slowest:.2f} s")
    (await redis_place.journal()).prove()


async def test_a_full_server_fails_calls_clearly_and_goes_on_when_it_has_room(tmp_path: Path) -> None:
    async with own_server(tmp_path / "redis") as (server, place), hosts(place, 1) as [host]:
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        async with place.client() as client:
            before = [await client.actor(Account, name).deposit(5) for name in ("a", "b")]
            assert before == [5, 5]
            server.command("CONFIG", "SET", "maxmemory", "1mb")
            began = time.monotonic()
            calls = [perform_once(client, Operation(f"full-{n}", "pay", "a", ("b", 1))) for n in range(8)]
            errors = await asyncio.gather(*calls)
            print(f"\nthe calls failed after {time.monotonic() - began:.1f} s: {errors[0]}")
            for error in errors:
                assert isinstance(error, StoreUnavailableError | OutcomeUnknownError)
                assert "maxmemory" in str(error)
            journal = await place.journal()
            journal.prove()
            assert journal.balance("a") == 5, "nothing is half done"
            assert journal.balance("b") == 5
            server.command("CONFIG", "SET", "maxmemory", "0")
            # The same clients, the same hosts, no restart; under its key each happens once.
            for n in range(8):
                await perform(client, Operation(f"full-{n}", "pay", "a", ("b", 1)))
            await eventually(place.unfinished, "everything promised")
            journal = await place.journal()
            journal.settled()
            assert (journal.balance("a"), journal.balance("b")) == (-3, 13)
        await host.stop()


async def test_a_server_that_fills_up_under_load_loses_nothing(tmp_path: Path) -> None:
    """The limit is reached between any two of a turn's writes; then there is room again; three times."""
    async with own_server(tmp_path / "redis") as (server, place), hosts(place, 2), Load(place, careful=True) as load:
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        for _ in range(3):
            await load.more(60)
            server.command("CONFIG", "SET", "maxmemory", "1mb")
            await asyncio.sleep(0.7)
            server.command("CONFIG", "SET", "maxmemory", "0")
        await load.more(2, load.accounts)
        await load.finish()
        print(f"\n{load.count} calls; {len(load.errors)} failed and were repeated")


async def test_a_server_that_lost_its_last_writes_is_believed(tmp_path: Path) -> None:
    """As after a crash of a machine that had not synced: the file ends earlier than what hosts have in their memory.

    What was acknowledged after that point may be lost, and that is what ``appendfsync always`` is for. What is left is
    whole: hosts give up what they know better, no turn builds on a lost one, and new calls follow what is stored.
    """
    names = [f"account-{n}" for n in range(12)]
    async with (
        own_server(tmp_path / "redis", crash_attempts=1000) as (server, place),
        hosts(place, 2),
        place.client() as client,
    ):
        for n in range(5):
            await deposits(client, names, f"kept-{n}")
        [file] = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
        size = file.stat().st_size
        for n in range(5):
            await deposits(client, names, f"lost-{n}")
        server.kill()
        os.truncate(file, size)
        server.start()
        assert (await place.journal()).balance(names[0]) == 5, "the last writes are lost"
        for n in range(5):
            await deposits(client, names, f"after-{n}")
        await eventually(place.unfinished, "everything promised")
        journal = await place.journal()
        journal.settled()
        for name in names:
            kept = [f"{when}-{n}" for when in ("kept", "after") for n in range(5)]
            assert journal.keys(name) == set(kept), "what was lost stays lost, what was not is whole"
            assert await client.actor(Account, name).balance() == journal.balance(name) == 10


async def deposits(client: Client, names: list[str], key: str) -> None:
    await asyncio.gather(*(perform(client, Operation(key, "deposit", name, (1,))) for name in names))


async def perform_once(client: Client, operation: Operation) -> LoomError:
    try:
        await operation.call(client)
    except LoomError as error:
        return error
    raise AssertionError(f"{operation.key} did not fail")
