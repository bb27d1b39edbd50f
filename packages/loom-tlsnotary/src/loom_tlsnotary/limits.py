"""How much a proof may take."""

from __future__ import annotations

import msgspec

from loom.errors import ConfigurationError

__all__ = ["Limits"]

_LEAST_MEMORY = 16 * 2**20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one proof; whoever wants more gets VerificationLimitError.

    ``presentation`` and ``transcript`` (each direction) are bytes, ``memory`` bytes of the module's memory, ``fuel``
    roughly its instructions, ``seconds`` real time in the worker.
    """

    presentation: int = 2 * 2**20
    transcript: int = 128 * 2**10
    memory: int = 64 * 2**20
    fuel: int = 2_000_000_000
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.memory < _LEAST_MEMORY:
            raise ConfigurationError(f"the module needs {_LEAST_MEMORY} bytes of memory, not {self.memory}")
