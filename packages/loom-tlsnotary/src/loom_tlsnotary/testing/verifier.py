"""TestTLSNotaryVerifier: the official module, but for one root certificate whose key is the test authority's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from loom.clock import Clock
from loom.plugins import AdapterContext, LoomURL
from loom.ports import IdempotencyStore

from ..options import TLSNotaryOptions
from ..production import refuse_in_production
from ..verifier import WasmTLSNotaryVerifier
from .server import authority_point

__all__ = ["TestTLSNotaryVerifier", "test_module"]

_REPLACED = bytes.fromhex(
    "0496dc3d8ad8b07b6fc627be4490b1b356157b8e43247d1a8459ee6368b2c65e87d015481ea890adbd53a2dade3a90a6605f6832b5"
    "8641df875b2c7bc5fe7c7ada"
)
"""The public key of "e-Szigno Root CA 2017", which is among the roots that the module trusts."""


def test_module(wasm: bytes) -> bytes:
    """The module with the test authority in place of one root. Raises ValueError where that root is not there."""
    if wasm.count(_REPLACED) != 1:
        raise ValueError("the module does not hold the root certificate that the test authority takes the place of")
    return wasm.replace(_REPLACED, authority_point())


class TestTLSNotaryVerifier(WasmTLSNotaryVerifier):
    """For tests, with TestNotary: the same verification, to which the test authority is a trusted root.

    Raises ProductionGuardError in production whatever any variable says.
    """

    __test__ = False  # pytest collects classes by this name

    def __init__(
        self,
        options: TLSNotaryOptions | None = None,
        *,
        clock: Clock | None = None,
        cache: IdempotencyStore | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        refuse_in_production("TestTLSNotaryVerifier", environ)
        super().__init__(options, clock=clock, cache=cache, environ=environ)

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``tlsn+test://?notaries=…``, as ``tlsn://``."""
        return cls(TLSNotaryOptions.from_url(url), clock=context.clock)

    def _module(self) -> bytes:
        return test_module(super()._module())

    def production_problems(self) -> list[str]:
        return ["this verifier trusts a test authority", *super().production_problems()]
