"""The ``loom`` command on a real redis-server: two hosts, and what a person asks of them from another shell."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.places import MEMBER_TTL
from support.process import PATIENCE, eventually
from support.shell import loom, run_loom

from loom_redis.testing import RedisServer

pytestmark = pytest.mark.slow

SHOP = """
import msgspec
from loom import Actor, Context, Loom, read_only, workflow


class CartState(msgspec.Struct):
    items: list[str] = []


class Cart(Actor[CartState]):
    async def add(self, item: str) -> int:
        self.state.items.append(item)
        return len(self.state.items)

    @read_only
    async def items(self) -> list[str]:
        return self.state.items


@workflow
async def checkout(ctx: Context, cart: str) -> int:
    await ctx.wait_signal("paid", bool)
    return len(await ctx.actor(Cart, cart).items())


app = Loom(actors=[Cart], workflows=[checkout])
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@asynccontextmanager
async def hosting(folder: Path, url: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """``loom run shop:app --json`` in the folder, and what it has said at its start."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOOM_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loom.cli", "run", "shop:app", "--json", cwd=folder, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env={**inherited, "LOOM_URL": url},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_two_hosts_and_what_is_asked_of_them(shared_redis: RedisServer, shop: Path) -> None:
    url = f"{shared_redis.url}?namespace=shell&member_ttl={MEMBER_TTL}"

    async def ask(*arguments: str) -> Any:
        return json.loads(await loom(*arguments, "--json", url=url))

    async def shares() -> str:
        fleet = await ask("status", "--cluster")
        shares = [member["shards"] for member in fleet["members"]]
        return "" if len(shares) == 2 and min(shares) > 50 and sum(shares) == 256 else str(shares)

    async with hosting(shop, url) as (one, said), hosting(shop, url) as (two, other):
        assert said["event"] == other["event"] == "started"
        assert said["actors"] == ["Cart"]
        assert set(said["ports"].values()) == {url}
        await eventually(shares, "both own shards")

        fleet = await ask("status", "--cluster")
        assert {member["pid"] for member in fleet["members"]} == {one.pid, two.pid}
        assert fleet["members"][0]["serves"] == ["Cart", "checkout"]
        assert fleet["shards"] == {"owned": 256, "of_the_dead": 0}
        text = await loom("status", "--cluster", url=url)
        assert said["member"] in text
        assert other["member"] in text
        assert "256 owned" in text

        carts = [f"cart-{n}" for n in range(6)]
        answers = await asyncio.gather(*(ask("call", "Cart", cart, "add", "apple") for cart in carts))
        assert [answer["result"] for answer in answers] == [1] * 6
        assert await loom("call", "Cart", "cart-0", "add", "pear", url=url) == "2\n"
        assert (await ask("call", "Cart", "cart-0", "items"))["result"] == ["apple", "pear"]

        await ask("start", "checkout", "c-1", "cart-0")
        assert (await ask("status", "checkout/c-1"))["status"] == "running"
        await ask("signal", "checkout/c-1", "paid", "true")
        assert (await ask("runs", "result", "checkout/c-1"))["result"] == 2

        one.send_signal(signal.SIGKILL)
        assert (await ask("call", "Cart", "cart-1", "items"))["result"] == ["apple"]
        two.send_signal(signal.SIGTERM)
        assert await two.wait() == 0
        assert two.stdout is not None
        assert json.loads((await two.stdout.read()).splitlines()[-1]) == {"event": "stopped"}

    async def members() -> Any:
        return (await ask("status"))["members"]

    await eventually(members, "the one that was killed counts as dead")
    code, _, errors = await run_loom("call", "Cart", "cart-1", "items", url=url)
    assert code == 1
    assert "no host serves Cart" in errors


async def test_doctor_and_check_find_a_sound_server_sound(shared_redis: RedisServer, shop: Path) -> None:
    url = f"{shared_redis.url}?namespace=doctor"
    found = json.loads(await loom("doctor", "--json", url=url))
    assert found["ok"], [row for row in found["checks"] if not row["ok"]]
    checks = {row["check"]: row["found"] for row in found["checks"]}
    assert "synced before it is acknowledged" in checks["journal: persistence"]
    assert "queue: persistence" not in checks, "what is told of a server is told once"
    assert "not served by redis://" in checks["blobs"]

    checked = json.loads(
        await loom("check", "shop:app", "--env", "production", "--connect", "--json", url=url, folder=shop)
    )
    assert not checked["refused"]
    assert checked["ordered"]
    assert "survives a crash of the process and of its machine" in checked["sentence"]
    ready = {port["port"]: port["verdict"] for port in checked["ports"]}
    assert ready["queue"] == ready["coordination"] == "ready"


async def test_check_refuses_a_server_that_forgets(tmp_path: Path, shop: Path) -> None:
    with RedisServer(tmp_path / "redis", appendonly=False) as forgetful:
        code, text, _ = await run_loom(
            "check", "shop:app", "--env", "production", "--connect", url=forgetful.url, folder=shop
        )
        assert code == 1
        assert "REFUSE journal" in text
        assert "appendonly" in text
        assert "A start would be refused." in text
        code, _, errors = await run_loom("run", "shop:app", url=forgetful.url, folder=shop, LOOM_ENV="production")
        assert code == 1
        assert "appendonly" in errors


async def test_a_server_that_is_not_there_is_named(shop: Path) -> None:
    url = "redis://user:geheim@127.0.0.1:1/0?retry_for=0.2&connect_timeout=0.2"
    for command in (("run", "shop:app"), ("status", "--cluster"), ("call", "Cart", "a", "items"), ("doctor",)):
        code, out, errors = await run_loom(*command, url=url, folder=shop)
        assert code == 1, command
        assert "127.0.0.1:1" in out + errors, command
        assert "geheim" not in out + errors, command
        assert "Traceback" not in errors, errors
