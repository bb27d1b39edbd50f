"""What the container and its account say of themselves, for ``loom doctor`` and for the guard."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from azure.core.exceptions import AzureError

from loom.errors import StoreUnavailableError

from .session import Session

__all__ = ["facts_of", "public_access", "soft_delete"]

_PINGS = 5

_COPIES = {
    "LRS": "three copies in one datacenter",
    "ZRS": "copies in three zones of a region",
    "GRS": "three copies in each of two regions, the second written later",
    "GZRS": "copies in three zones, and in a second region later",
    "RAGRS": "three copies in each of two regions, the second written later and readable",
    "RAGZRS": "copies in three zones, and in a second region later and readable",
}


async def facts_of(session: Session) -> dict[str, str]:
    """Facts in words. Holds no credentials; what may not be asked is told as such."""
    options = session.options
    found = {"container": options.where, "namespace": options.namespace or "none: the whole container"}
    found["signs in by"] = options.source if session.token is None else "an identity"
    if ends := options.sas_ends:
        found["the SAS ends"] = f"{ends:%Y-%m-%d %H:%M} UTC"
    account = await _or_none(session, session.container.get_account_information)
    if account is None:
        found["account"] = "does not show what it is to this credential"
    else:
        sku = str(account.get("sku_name", "?"))
        copies = _COPIES.get(sku.rpartition("_")[2].replace("-", "").upper(), "")
        found["account"] = f"{account.get('account_kind', '?')}, {sku}{f': {copies}' if copies else ''}"
        if account.get("is_hns_enabled"):
            found["hierarchical namespace"] = "on"
    access = await public_access(session)
    found["public access"] = {None: "not shown to this credential", "": "none"}.get(access, f"{access}: anybody reads")
    days = await soft_delete(session)
    found["soft delete"] = {None: "not shown to this credential", 0: "off"}.get(days, f"{days} days")
    found["round trip"] = f"{await _round_trip(session):.1f} ms (median of {_PINGS})"
    return found


async def public_access(session: Session) -> str | None:
    """What anybody may read of the container: ``""`` nothing, ``blob`` or ``container``; None where it isn't shown."""
    properties = await _or_none(session, session.container.get_container_properties)
    if properties is None:
        return None
    access = properties.public_access or ""
    return str(getattr(access, "value", access))


async def soft_delete(session: Session) -> int | None:
    """For how many days the account keeps what was deleted or overwritten, 0 for none; None where it isn't shown."""
    properties = await _or_none(session, session.service.get_service_properties)
    policy = None if properties is None else properties.get("delete_retention_policy")
    if policy is None:
        return None
    return int(policy.days or 0) if policy.enabled else 0


async def _or_none(session: Session, request: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, or None where this credential may not ask."""
    try:
        return await session.run(request)
    except (AzureError, StoreUnavailableError):
        return None


async def _round_trip(session: Session) -> float:
    client = session.blob("!!round-trip")
    times = []
    for _ in range(_PINGS):
        began = time.perf_counter()
        await session.run(client.exists)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
