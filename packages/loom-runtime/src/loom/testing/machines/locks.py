"""A LockManager against a dictionary of leases."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ...clock import Clock
from ...errors import LockLostError
from ...ports.lock import Lease, LockManager
from ..clock import ManualClock
from .base import AdapterMachine

__all__ = ["locks_machine"]

NAMES = ("l", "L", "l\x00")
names = st.sampled_from(NAMES)
ttls = st.sampled_from([1.0, 5.0, 30.0])
picks = st.integers(0, 20)


class _LocksMachine(AdapterMachine[LockManager]):
    def __init__(self, connect: Callable[[Clock], LockManager]) -> None:
        self.clock = ManualClock(start=1_000_000.0)
        super().__init__(lambda: connect(self.clock))
        self.held: dict[str, Lease] = {}
        self.tokens: dict[str, int] = {}
        self.leases: list[Lease] = []

    def holder(self, name: str) -> Lease | None:
        lease = self.held.get(name)
        return lease if lease is not None and lease.expires_at > self.clock.now() else None

    def pick(self, pick: int) -> Lease | None:
        return self.leases[-1 - pick % len(self.leases)] if self.leases else None

    def is_current(self, lease: Lease) -> bool:
        current = self.holder(lease.name)
        return current is not None and current.holder == lease.holder

    @rule(name=names, ttl=ttls)
    def acquire(self, name: str, ttl: float) -> None:
        lease = self.run(self.adapter.acquire(name, ttl))
        assert (lease is None) is (self.holder(name) is not None)
        if lease is not None:
            assert (lease.name, lease.expires_at) == (name, self.clock.now() + ttl)
            assert lease.token > self.tokens.get(name, 0)
            assert lease.holder not in {one.holder for one in self.leases}
            self.held[name], self.tokens[name] = lease, lease.token
            self.leases.append(lease)

    @rule(pick=picks, ttl=ttls)
    def renew(self, pick: int, ttl: float) -> None:
        lease = self.pick(pick)
        if lease is None:
            return
        try:
            renewed = self.run(self.adapter.renew(lease, ttl))
        except LockLostError:
            assert not self.is_current(lease)
            return
        assert self.is_current(lease)
        assert renewed == Lease(lease.name, lease.token, lease.holder, self.clock.now() + ttl)
        self.held[lease.name] = renewed

    @rule(pick=picks)
    def release(self, pick: int) -> None:
        lease = self.pick(pick)
        if lease is not None:
            current = self.is_current(lease)
            assert self.run(self.adapter.release(lease)) is current
            if current:
                del self.held[lease.name]

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def holders_agree(self) -> None:
        for name in NAMES:
            assert self.run(self.adapter.holder(name)) == self.holder(name)


def locks_machine(connect: Callable[[Clock], LockManager]) -> type[RuleBasedStateMachine]:
    """A machine for adapters that ``connect(clock)`` builds, unstarted and each over empty data."""

    class LocksMachine(_LocksMachine):
        def __init__(self) -> None:
            super().__init__(connect)

    return LocksMachine
