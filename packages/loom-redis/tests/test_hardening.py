"""The client where servers are particular: TLS, users, sockets, replicas, busy and loading servers, cut connections."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import trustme

from loom.errors import StoreUnavailableError
from loom.plugins import LoomURL
from loom.testing.servers import free_port
from loom_redis.client import Redis
from loom_redis.options import RedisOptions
from loom_redis.proxy import LossyProxy
from loom_redis.scripts import Script
from loom_redis.testing import RedisServer

_SET = Script("set", "redis.call('SET', KEYS[1], ARGV[1]) return 1", writes=True)


def _redis(url: str) -> Redis:
    return Redis(RedisOptions.from_url(LoomURL.parse(url)))


async def _fails(url: str, said: str) -> StoreUnavailableError:
    with pytest.raises(StoreUnavailableError, match=said) as raised:
        await _redis(url).start()
    return raised.value


async def test_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    files = (("tls-cert-file", "cert.pem"), ("tls-key-file", "key.pem"), ("tls-ca-cert-file", "ca.pem"))
    settings = (
        ("tls-port", str(port)),
        ("tls-auth-clients", "no"),
        *((name, str(tmp_path / file)) for name, file in files),
    )
    with RedisServer(tmp_path / "data", settings=settings):
        redis = _redis(f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path / 'ca.pem'}")
        await redis.start()
        replies = await asyncio.gather(*(redis.call("ECHO", "x" * 10_000) for _ in range(300)))
        assert len(replies) == 300
        await redis.close()
        began = time.monotonic()
        await _fails(f"rediss://localhost:{port}/0", "CERTIFICATE_VERIFY_FAILED")
        await _fails(f"rediss://localhost:{port}/0?ssl_ca_certs=/nowhere.pem", "nowhere.pem: cannot be read")
        assert time.monotonic() - began < 9, "what trying again cannot mend is told at once"


async def test_users_passwords_and_what_is_said_of_them(tmp_path: Path) -> None:
    user = ("user", "app", "on", ">hush/1", "~app:*", "&*", "+@all", "-flushall")
    with RedisServer(tmp_path, settings=(user, ("requirepass", "other"))) as server:
        address = f"127.0.0.1:{server.port}"
        redis = _redis(f"redis://app:hush%2F1@{address}/0?namespace=app")
        await redis.start()
        await redis.call("SET", "app:x", 1)
        with pytest.raises(StoreUnavailableError, match="may not run the command") as refused:
            await redis.call("FLUSHALL")
        await redis.close()
        wrong = await _fails(f"redis://app:hushhush@{address}", "user name or the password is wrong")
        missing = await _fails(f"redis://{address}", "asks for a password")
        for error in (refused.value, wrong, missing, redis.options):
            assert "hush" not in repr(error) + str(error)


async def test_a_server_that_repeats_what_it_does_not_know(tmp_path: Path) -> None:
    with RedisServer(tmp_path, settings=(("rename-command", "HELLO", ""),)) as server:
        error = await _fails(server.url.replace("//", "//me:hush@"), "7.0 or newer")
    assert "hush" not in str(error) + repr(error.__cause__)


async def test_a_socket_and_a_database(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    with RedisServer(tmp_path / "data", settings=(("unixsocket", str(path)),)) as server:
        redis = _redis(f"unix://{path}?db=3")
        await redis.start()
        await redis.call("SET", "a", 1)
        assert server.cli("-n", "3", "GET", "a") == "1"
        server.command("CLIENT", "KILL", "TYPE", "normal")
        assert await redis.call("GET", "a", repeatable=True) == b"1", "a new connection chooses the database again"
        await redis.close()


@pytest.mark.slow
async def test_a_server_that_loads_is_waited_for(tmp_path: Path) -> None:
    settings = (("loading-process-events-interval-bytes", "1024"),)
    with RedisServer(tmp_path, settings=settings) as server:
        redis = _redis(f"{server.url}?retry_for=60")
        await redis.start()
        for n in range(4):
            await asyncio.gather(*(redis.call("SET", f"k{n}:{m}", "x" * 100) for m in range(1000)))
        server.cli("CONFIG", "SET", "key-load-delay", "500")
        debug = asyncio.ensure_future(redis.call("DEBUG", "RELOAD", repeatable=True))
        await asyncio.sleep(0.2)
        other = _redis(f"{server.url}?retry_for=60")
        await other.start()
        assert await other.call("GET", "k3:999", repeatable=True) == b"x" * 100
        await debug
        await redis.close()
        await other.close()


async def test_a_demoted_server_is_tried_until_it_takes_writes(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        redis = _redis(server.url)
        await redis.start()
        server.command("REPLICAOF", "127.0.0.1", "1")
        write = asyncio.ensure_future(redis.run(_SET, ["k"], [1]))
        await asyncio.sleep(0.3)
        assert not write.done()
        server.command("REPLICAOF", "NO", "ONE")
        assert await write == 1
        await redis.close()


async def test_a_busy_server_is_waited_for(tmp_path: Path) -> None:
    with RedisServer(tmp_path, settings=(("busy-reply-threshold", "50"),)) as server:
        redis = _redis(server.url)
        await redis.start()
        busy = asyncio.create_task(asyncio.to_thread(_spin, server))
        await asyncio.sleep(0.3)
        write = asyncio.ensure_future(redis.run(_SET, ["k"], [1]))
        await asyncio.sleep(0.3)
        assert not write.done()
        server.command("SCRIPT", "KILL")
        assert await write == 1
        await busy
        await redis.close()


def _spin(server: RedisServer) -> None:
    try:
        server.command("EVAL", "while true do end", "0")
    except OSError:
        pass


async def test_a_lost_reply_is_unknown_and_repeated_where_that_is_harmless(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        async with LossyProxy(server.port) as proxy:
            redis = _redis(proxy.url)
            await redis.start()
            proxy.lose_reply_to(b"precious")
            with pytest.raises(StoreUnavailableError) as raised:
                await redis.call("INCR", "precious")
            assert raised.value.unknown
            proxy.lose_reply_to(b"precious")
            assert await redis.call("GET", "precious", repeatable=True) == b"1"
            await redis.close()


@pytest.mark.slow
async def test_many_waiters_make_few_attempts(tmp_path: Path) -> None:
    attempts = 0

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.transport.abort()

    with RedisServer(tmp_path) as server:
        redis = _redis(f"{server.url}?retry_for=2")
        await redis.start()
        server.kill()
        closed = await asyncio.start_server(refuse, "127.0.0.1", server.port)
        calls = [redis.call("GET", "a", repeatable=True) for _ in range(500)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
        closed.close()
        assert all(isinstance(one, StoreUnavailableError) for one in failed)
        assert 2 <= attempts <= 25
        await redis.close()


async def test_writes_wait_for_replicas(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "m") as master:
        replica = RedisServer(tmp_path / "r", settings=(("replicaof", "127.0.0.1", str(master.port)),))
        with replica:
            while "state=online" not in master.cli("INFO", "replication"):
                await asyncio.sleep(0.05)
            redis = _redis(f"{master.url}?wait_replicas=1&wait_timeout=4")
            await redis.start()
            await asyncio.gather(*(redis.run(_SET, [f"k{n}"], [n]) for n in range(200)))
            assert int(replica.cli("DBSIZE")) == 200
            await redis.close()
            redis = _redis(f"{master.url}?wait_replicas=1&wait_timeout=0.3")
            await redis.start()
            replica.pause()
            with pytest.raises(StoreUnavailableError, match="not on 1 replicas") as raised:
                await redis.run(_SET, ["late"], [1])
            assert raised.value.unknown
            replica.go_on()
            await redis.close()


async def test_an_old_server_cannot_be_asked_to_wait_for_its_file(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        if not server.cli("INFO", "server").count("redis_version:7.0"):
            pytest.skip("this redis-server knows WAITAOF")
        await _fails(f"{server.url}?wait_aof=1", r"wait_aof needs Redis 7\.2 or newer \(WAITAOF\), this is 7\.0")
