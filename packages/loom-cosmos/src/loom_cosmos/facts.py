"""What an account says of itself: read for ``loom doctor`` and for the guard, and put into words."""

from __future__ import annotations

import statistics
import time
from typing import Any

import msgspec

from loom.errors import StoreUnavailableError

from .client import Cosmos
from .containers import DOCUMENTS

__all__ = ["PROMISES", "AccountFacts", "account_facts", "facts_of"]

PROMISES: dict[str, str] = {
    "Strong": "every read shows every write that was acknowledged before, in every region",
    "BoundedStaleness": "reads in the write region show every acknowledged write; others lag a bounded time",
    "Session": "a host sees its own writes at once, those of others a moment later; conditions meet the newest",
    "ConsistentPrefix": "a host may not see its own writes for a moment",
    "Eventual": "a host may not see its own writes for a moment, nor writes in their order",
}
"""What each consistency level promises of what Loom reads, strongest first."""

_ROUND_TRIPS = 5


class AccountFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An account's properties. ``consistency`` is empty where the account does not tell it."""

    consistency: str
    writable: tuple[str, ...]
    readable: tuple[str, ...]

    @property
    def multi_write(self) -> bool:
        """Whether several regions take writes at once."""
        return len(self.writable) > 1


async def account_facts(cosmos: Cosmos) -> AccountFacts:
    """Ask the account. Raises StoreUnavailableError."""
    account: Any = await cosmos.account()
    policy = account.ConsistencyPolicy or {}
    return AccountFacts(
        consistency=str(policy.get("defaultConsistencyLevel", "")),
        writable=tuple(str(region.get("name", "?")) for region in account.WritableLocations),
        readable=tuple(str(region.get("name", "?")) for region in account.ReadableLocations),
    )


async def facts_of(cosmos: Cosmos) -> dict[str, str]:
    """Facts in words. Holds no key."""
    account = await account_facts(cosmos)
    options = cosmos.options
    promise = PROMISES.get(account.consistency, "the account does not say what it promises")
    return {
        "account": f"{options.where}, namespace {options.namespace}",
        "regions": f"writes in {', '.join(account.writable)}; reads in {', '.join(account.readable)}",
        "consistency": f"{account.consistency or 'not shown'}: {promise}",
        "signed in": "the emulators' key"
        if options.emulator
        else "an account key"
        if options.key
        else "Microsoft Entra ID",
        "round trip": await _round_trip(cosmos),
        "spent": str(cosmos.usage) or "nothing",
    }


async def _round_trip(cosmos: Cosmos) -> str:
    times = []
    try:
        await cosmos.use(DOCUMENTS)
        for _ in range(_ROUND_TRIPS):
            began = time.perf_counter()
            await cosmos.read(DOCUMENTS, "nothing", "nothing")
            times.append((time.perf_counter() - began) * 1000)
    except StoreUnavailableError as error:
        return f"not measured: {error}"
    return f"{statistics.median(times):.2f} ms (median of {_ROUND_TRIPS} reads)"
