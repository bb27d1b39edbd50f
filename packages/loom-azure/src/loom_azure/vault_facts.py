"""What a vault says of itself, for ``loom doctor`` and for the guard."""

from __future__ import annotations

import statistics
import time

from loom.errors import StoreUnavailableError

from .vault_options import recoverable
from .vault_session import VaultSession

__all__ = ["recovery_level", "vault_facts"]

_PINGS = 3


async def vault_facts(session: VaultSession) -> dict[str, str]:
    """Facts in words; no names and no values of secrets."""
    options = session.options
    found = {"vault": options.endpoint, "namespace": options.namespace or "none: the whole vault"}
    level = await recovery_level(session)
    if level is None:
        found["deleted secrets"] = "not known: the vault holds no secret that this identity sees"
    else:
        what = "can be recovered" if recoverable(level) else "are gone for good; turn soft delete on"
        found["deleted secrets"] = f"{what} ({level})"
    times = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        await session.first()
        times.append((time.perf_counter() - began) * 1000)
    found["round trip"] = f"{statistics.median(times):.1f} ms (median of {_PINGS})"
    return found


async def recovery_level(session: VaultSession) -> str | None:
    """The recovery level of a secret, which is that of its vault; None where there is none to see."""
    try:
        one = await session.first()
    except StoreUnavailableError:
        return None
    level = None if one is None else one.recovery_level
    return None if level is None else str(getattr(level, "value", level))
