"""Locks across the end of a process, and between processes."""

from __future__ import annotations

from ...plugins.spec import Durability, Feature, Reach
from ...ports.lock import LockManager
from ..linearizability import LockModel, check
from .base import Harness, Suite, scenario
from .child import report, run_child
from .histories import lock_histories

__all__ = ["LockCrashSuite"]

H = Harness[LockManager]


async def take_and_report(locks: LockManager, ttl: str) -> None:
    """Child: take and give back for ever, reporting each token once it is held."""
    while True:
        lease = await locks.acquire("l", float(ttl))
        assert lease is not None
        report(lease.token)
        await locks.release(lease)


async def enter_and_report(locks: LockManager, times: str) -> None:
    """Child: enter and leave against others, reporting each token while it is held."""
    for _ in range(int(times)):
        lease = await locks.acquire("l", 600.0, wait=600.0)
        assert lease is not None
        report(lease.token)
        await locks.release(lease)


class LockCrashSuite(Suite[LockManager]):
    """Tokens and leases belong to the store, not to a process."""

    @scenario(Feature.FENCING, durability=Durability.PROCESS, url=True)
    async def test_tokens_grow_after_a_process_was_killed(self, h: H) -> None:
        assert h.url is not None
        ttl = 600.0 if h.clock is not None else h.unit * 4
        async with run_child(take_and_report, await h.leave(), h.url, str(ttl)) as child:
            while len(child.lines) < 50 and await child.read() is not None:
                pass
            tokens = await child.kill()
        assert tokens == sorted(set(tokens))
        await h.pass_time(ttl + 60.0 if h.clock is not None else ttl * 1.2)
        lease = await (await h.reopen()).acquire("l", h.unit)
        assert lease is not None
        assert lease.token > tokens[-1]

    @scenario(reach=Reach.HOST, url=True)
    async def test_histories_of_processes_are_linearizable(self, h: H) -> None:
        """Also when one of the processes is killed: its leases stay until they end."""
        model = LockModel(fencing=Feature.FENCING in self.features)
        for verdict in check(await lock_histories(h), model):
            assert verdict.linearizable, str(verdict)

    @scenario(reach=Reach.HOST, url=True)
    async def test_processes_exclude_each_other_and_hand_over(self, h: H) -> None:
        assert h.url is not None
        held = await h.adapter.acquire("l", 36_000.0)
        assert held is not None
        async with (
            run_child(enter_and_report, h.adapter, h.url, "15") as one,
            run_child(enter_and_report, h.adapter, h.url, "15") as two,
        ):
            await h.adapter.release(held)
            tokens = [*await one.rest(), *await two.rest()]
            assert (one.returncode, two.returncode) == (0, 0)
        assert len(set(tokens)) == 30
        assert min(tokens) > held.token
