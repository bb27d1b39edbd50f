"""Requests and request units, counted from what the account answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Spent", "Usage", "operation_of"]

_CHARGE = "x-ms-request-charge"


class Spent(msgspec.Struct):
    """Of one kind of operation: answered requests, those of them that were throttled, and request units."""

    requests: int = 0
    throttled: int = 0
    units: float = 0.0


class Usage:
    """What one client has spent since it was made, by operation: ``read``, ``batch``, ``query``, ``metadata``."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}

    @property
    def requests(self) -> int:
        """Answered requests for items: what a turn costs in round trips. Metadata is left out."""
        return sum(spent.requests for name, spent in self.spent.items() if name != "metadata")

    @property
    def units(self) -> float:
        """Request units, all operations together."""
        return sum(spent.units for spent in self.spent.values())

    def __str__(self) -> str:
        """Such as ``batch: 12 requests, 84.1 RU; read: 3 requests, 3.0 RU``."""
        return "; ".join(
            f"{name}: {spent.requests} requests, {spent.units:.1f} RU"
            + (f", {spent.throttled} throttled" if spent.throttled else "")
            for name, spent in sorted(self.spent.items())
        )

    def count(self, response: Any) -> None:
        """Called by the driver for every answer, those of requests that it repeats by itself included."""
        request, answer = response.http_request, response.http_response
        spent = self.spent.setdefault(operation_of(request.method, request.url, request.headers), Spent())
        spent.requests += 1
        spent.throttled += answer.status_code == 429
        try:
            spent.units += float(answer.headers.get(_CHARGE, 0))
        except ValueError:
            return


def operation_of(method: str, url: str, headers: Mapping[str, str]) -> str:
    """What kind of operation a request is."""
    if "/docs" not in url:
        return "metadata"
    if headers.get("x-ms-cosmos-is-batch-request"):
        return "batch"
    return "query" if method == "POST" else "read"
