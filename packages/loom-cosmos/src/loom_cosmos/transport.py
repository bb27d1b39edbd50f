"""The way to the network: azure-core's for aiohttp, with large bodies sent in pieces and an end that is one."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from azure.core.pipeline.transport import AioHttpTransport

__all__ = ["Transport"]

_LARGE = 2**20
_CLOSING = 0.25


class Transport(AioHttpTransport):  # type: ignore[misc]  # azure-core loads it late, so that it has no type
    """Hands a body of more than a mebibyte over as a stream: as bytes it would hold up the event loop, says aiohttp.

    ``close`` leaves no connection behind. One whose request was given up, by a caller or by the driver's own checks of
    the account, ends by a goodbye of TLS that nobody waits for: then it gives it the time that aiohttp advises.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        """``timeout`` seconds are waited for an answer where the driver does not say how long: older ones."""
        super().__init__()
        self._timeout = timeout
        self._given_up = False

    async def send(self, request: Any, **config: Any) -> Any:
        """Send the request. The body stays as it was, for the driver may send the request again."""
        config.setdefault("read_timeout", self._timeout)
        body = request.data
        if isinstance(body, bytes | str) and len(body) > _LARGE // (1 if isinstance(body, bytes) else 4):
            request.data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        try:
            return await super().send(request, **config)
        except asyncio.CancelledError:
            self._given_up = True
            raise
        finally:
            request.data = body

    async def close(self) -> None:
        """End all connections."""
        await super().close()
        if self._given_up:
            self._given_up = False
            await asyncio.sleep(_CLOSING)
