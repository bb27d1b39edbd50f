"""The bank's transfer: whatever stops it, wherever it is stopped, no money is lost and none is made."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from loom.errors import LoomError, WorkflowCancelledError

from .faults import Faults


def _load_bank() -> Any:
    if "bank" not in sys.modules:
        path = Path(__file__).parents[4] / "examples" / "bank.py"
        spec = importlib.util.spec_from_file_location("bank", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["bank"] = module
        spec.loader.exec_module(module)
    return sys.modules["bank"]


bank = _load_bank()


async def _open(house: Any) -> Any:
    house.options["drain_seconds"] = 0.5
    return await house.open(bank.transfer, actors=[bank.Account])


async def _settled(app: Any, handle: Any) -> str:
    """How the transfer ended; approves it if need be. Raises when money was lost or made."""

    async def ended() -> str:
        status = await handle.status()
        if status.status == "running" and any("approved" in line for line in status.waiting_for):
            try:
                await handle.signal("approved", True)
            except LoomError:
                return ""
        return "" if status.status == "running" else str(status.status)

    async with asyncio.timeout(20):
        while not (state := await ended()):
            await asyncio.sleep(0.001)
    alice = await app.actor(bank.Account, "alice").balance()
    bob = await app.actor(bank.Account, "bob").balance()
    wanted = (70, 30) if state == "completed" else (100, 0)
    assert (alice, bob) == wanted, f"{state}: alice {alice}, bob {bob}"
    return state


async def _entries_of_a_whole_transfer(house: Any) -> int:
    app = await _open(house)
    await app.actor(bank.Account, "alice").deposit(100)
    faults = Faults().install(app)
    handle = await app.workflow(bank.transfer, "whole").start("alice", "bob", 30)
    assert await _settled(app, handle) == "completed"
    faults.remove()
    return faults.count


async def _fresh(house: Any, number: int) -> Any:
    """Another house of the same kind, for one more story."""
    folder = house.folder / str(number)
    folder.mkdir()
    other = type(house)(house.storage, folder)
    other.options = dict(house.options)
    return other


async def test_cancelled_after_every_durable_operation_money_is_conserved(house: Any) -> None:
    total = await _entries_of_a_whole_transfer(house)
    ends = set()
    for k in range(total + 1):
        story = await _fresh(house, k)
        app = await _open(story)
        await app.actor(bank.Account, "alice").deposit(100)
        handle = app.workflow(bank.transfer, "t")
        cancels: list[asyncio.Task[Any]] = []

        def cancel(count: int, k: int = k, handle: Any = handle, cancels: list[Any] = cancels) -> None:
            if count == k:
                cancels.append(asyncio.create_task(handle.cancel("changed my mind")))

        faults = Faults().install(app)
        faults.on_entry = cancel
        starting = asyncio.create_task(handle.start("alice", "bob", 30))
        cancel(0)
        await starting
        ends.add(await _settled(app, handle))
        await asyncio.gather(*cancels, return_exceptions=True)
        faults.remove()
        await story.close()
    assert ends == {"completed", "cancelled"}


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
async def test_abandoned_at_every_durable_operation_money_is_conserved(house: Any, after: bool) -> None:
    total = await _entries_of_a_whole_transfer(house)
    for k in range(1, total + 1):
        story = await _fresh(house, k)
        app = await _open(story)
        await app.actor(bank.Account, "alice").deposit(100)
        faults = Faults(k, after=after).install(app)
        handle = app.workflow(bank.transfer, "t")
        driving = asyncio.create_task(_drive(app, handle))
        freezing = asyncio.create_task(faults.frozen.wait())
        await asyncio.wait([driving, freezing], return_when=asyncio.FIRST_COMPLETED)
        faults.remove()
        await story.crash()
        driving.cancel()
        freezing.cancel()
        await asyncio.wait([driving, freezing])
        app = await _open(story)
        handle = await app.workflow(bank.transfer, "t").start("alice", "bob", 30)
        assert await _settled(app, handle) == "completed", f"operation {k}"
        await story.close()


async def _drive(app: Any, handle: Any) -> None:
    await handle.start("alice", "bob", 30)
    await _settled(app, handle)


async def test_cancelled_and_then_abandoned_everywhere_money_is_conserved(house: Any) -> None:
    """The compensation itself is cut at every one of its entries."""
    if house.storage != "memory":
        pytest.skip("the pairs are many; sqlite has the single ones")
    for k in range(1, 40):
        story = await _fresh(house, k)
        app = await _open(story)
        await app.actor(bank.Account, "alice").deposit(100)
        handle = await app.workflow(bank.transfer, "t").start("alice", "bob", 30)
        await story.waits(handle, "approved")
        faults = Faults(k).install(app)
        cancelling = asyncio.create_task(handle.cancel())
        waiting = asyncio.create_task(_ended(handle))
        freezing = asyncio.create_task(faults.frozen.wait())
        await asyncio.wait([waiting, freezing], return_when=asyncio.FIRST_COMPLETED)
        through = waiting.done()
        faults.remove()
        await story.crash()
        for task in (cancelling, waiting, freezing):
            task.cancel()
        await asyncio.wait([cancelling, waiting, freezing])
        app = await _open(story)
        handle = app.workflow(bank.transfer, "t")
        await handle.cancel()
        assert await _settled(app, handle) == "cancelled"
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        await story.close()
        if through:
            return
    raise AssertionError("the cancellation never got through")


async def _ended(handle: Any) -> None:
    with pytest.raises(WorkflowCancelledError):
        await handle.result()


async def test_a_transfer_that_is_refused_gives_the_money_back(house: Any) -> None:
    app = await _open(house)
    await app.actor(bank.Account, "alice").deposit(100)
    handle = await app.workflow(bank.transfer, "t").start("alice", "bob", 30)
    await house.waits(handle, "approved")
    await handle.signal("approved", False)
    with pytest.raises(PermissionError, match="refused"):
        await handle.result()
    assert await app.actor(bank.Account, "alice").balance() == 100


async def test_a_transfer_that_nobody_approves_gives_the_money_back_after_an_hour(house: Any) -> None:
    clock = house.manual()
    app = await _open(house)
    await app.actor(bank.Account, "alice").deposit(100)
    handle = await app.workflow(bank.transfer, "t").start("alice", "bob", 30)
    await house.waits(handle, "approved")
    clock.advance(3601)
    with pytest.raises(TimeoutError):
        await handle.result()
    assert await app.actor(bank.Account, "alice").balance() == 100


async def test_without_funds_nothing_moves(house: Any) -> None:
    app = await _open(house)
    with pytest.raises(bank.InsufficientFunds):
        await app.workflow(bank.transfer, "t").run("alice", "bob", 30)
    assert await app.actor(bank.Account, "bob").balance() == 0
