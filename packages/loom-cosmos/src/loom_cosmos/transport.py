"""The way to the network: azure-core's for aiohttp, with large bodies sent in pieces."""

from __future__ import annotations

import io
from typing import Any

from azure.core.pipeline.transport import AioHttpTransport

__all__ = ["LargeBodies"]

_LARGE = 2**20


class LargeBodies(AioHttpTransport):  # type: ignore[misc]  # azure-core loads it late, so that it has no type
    """Hands a body of more than a mebibyte over as a stream: as bytes it would hold up the event loop, says aiohttp."""

    async def send(self, request: Any, **config: Any) -> Any:
        """Send the request. The body stays as it was, for the driver may send the request again."""
        body = request.data
        if not isinstance(body, bytes | str) or len(body) <= _LARGE // (1 if isinstance(body, bytes) else 4):
            return await super().send(request, **config)
        request.data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        try:
            return await super().send(request, **config)
        finally:
            request.data = body
