"""What every port shares: a life with a start and an end, and the limits on names."""

from __future__ import annotations

from abc import ABC
from types import TracebackType
from typing import Self

from ..errors import InvalidKeyError

__all__ = ["MAX_KEY_BYTES", "Port", "check_key"]

MAX_KEY_BYTES = 4096
"""Names and keys may be any non-empty Unicode text of up to this many UTF-8 bytes, ``/``, ``:``,
``{`` and NUL included.

Adapters escape what their backend cannot hold; they never refuse or alter a key within this limit.
"""


def check_key(what: str, key: str) -> None:
    """Raise InvalidKeyError unless ``key`` is non-empty, encodable text of at most MAX_KEY_BYTES in UTF-8."""
    if not key:
        raise InvalidKeyError(f"{what} is empty; give it at least one character", what=what)
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidKeyError(f"{what} {key!r} holds a lone surrogate and is not text", what=what) from error
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(f"{what} of {size} bytes is longer than {MAX_KEY_BYTES}", what=what, size=size)


class Port(ABC):
    """The base of every port.

    Constructing an adapter does no I/O. ``start`` connects and prepares; it may be called again on a started adapter
    and then does nothing. ``close`` releases everything, waits for operations under way, and may be called twice.
    All other methods may be called between the two only, from the event loop that called ``start``, by any number of
    tasks at once. A task cancelled in the middle of a call leaves the adapter usable; the effect of that call is
    either whole or absent.

    Used as ``async with adapter: …``.
    """

    async def start(self) -> None:
        """Connect and prepare. Raises StoreUnavailableError when the backend cannot be reached or written."""

    async def close(self) -> None:
        """Release everything. What had been acknowledged stays."""

    async def facts(self) -> dict[str, str]:
        """What the backend says of itself (versions, settings, room left), for ``loom doctor``. No credentials."""
        return {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
