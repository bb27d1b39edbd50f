"""MockTLSNotaryVerifier: the same port and the same checks, without any cryptography. For tests."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from loom.clock import Clock, SystemClock
from loom.errors import ConfigurationError, PresentationFormatError, VerificationLimitError
from loom.plugins import AdapterContext, LoomURL
from loom.ports import AuthenticatedBytes, NotaryKey, TLSNotaryPolicy, TLSNotaryVerdict, TLSNotaryVerifier

from .checks import judge
from .opened import Opened
from .options import ALLOW_MOCK, TLSNotaryOptions, mock_is_allowed
from .production import refuse_in_production

__all__ = ["MOCK_NOTARY", "MockTLSNotaryVerifier"]

MOCK_NOTARY = NotaryKey("secp256k1", b"\x02" + bytes(32))
"""The notary of mock presentations: no point of the curve, so nobody can sign by it."""

_MAGIC = b"loom mock presentation\n"


class MockTLSNotaryVerifier(TLSNotaryVerifier):
    """Believes what ``MockTLSNotaryVerifier.present`` has written, and judges it as the real verifier would.

    There is no signature: anybody can write such a presentation. ``mode`` of its verdicts is ``mock``. To make one
    raises ProductionGuardError in production, whatever any variable or argument says, and elsewhere
    ConfigurationError unless ``allow_mock`` or TLSNOTARY_ALLOW_MOCK is true. Without trusted notaries in the options
    MOCK_NOTARY is trusted.
    """

    def __init__(
        self,
        options: TLSNotaryOptions | None = None,
        *,
        allow_mock: bool | None = None,
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        refuse_in_production("MockTLSNotaryVerifier", environ)
        if not (mock_is_allowed(environ) if allow_mock is None else allow_mock):
            raise ConfigurationError(
                f"MockTLSNotaryVerifier proves nothing: it is made only with allow_mock=True or {ALLOW_MOCK}=true"
            )
        self.options = TLSNotaryOptions.from_environ(environ) if options is None else options
        self._clock = clock or SystemClock()

    @classmethod
    def from_url(cls, url: LoomURL, context: AdapterContext) -> Self:
        """``tlsn+mock://``, with the options of ``tlsn://``; TLSNOTARY_ALLOW_MOCK must be true."""
        return cls(TLSNotaryOptions.from_url(url), clock=context.clock)

    @staticmethod
    def present(
        response: bytes,
        *,
        server_name: str = "example.test",
        request: bytes | None = None,
        at: float | None = None,
        revealed: Sequence[tuple[int, int]] | None = None,
        notary_key: NotaryKey = MOCK_NOTARY,
    ) -> bytes:
        """A presentation for a mock: ``response`` by ``server_name``, with only the ``revealed`` ranges if given."""
        sent = f"GET / HTTP/1.1\r\nhost: {server_name}\r\n\r\n".encode() if request is None else request
        ranges = ((0, len(response)),) if revealed is None else tuple(revealed)
        shown = bytearray(len(response))
        for start, end in ranges:
            shown[start:end] = response[start:end]
        opened = Opened(
            notary_key=notary_key,
            time=int(time.time() if at is None else at),
            server_name=server_name,
            sent=AuthenticatedBytes(sent, ((0, len(sent)),)),
            received=AuthenticatedBytes(bytes(shown), ranges),
        )
        return _MAGIC + msgspec.json.encode(opened)

    async def verify(
        self, presentation: bytes, server_name: str, policy: TLSNotaryPolicy | None = None
    ) -> TLSNotaryVerdict:
        if len(presentation) > self.options.limits.presentation:
            raise VerificationLimitError(f"the presentation of {len(presentation)} bytes is too long")
        try:
            if not presentation.startswith(_MAGIC):
                raise msgspec.DecodeError
            opened = msgspec.json.decode(presentation[len(_MAGIC) :], type=Opened)
        except msgspec.DecodeError:
            raise PresentationFormatError(
                "this is no mock presentation; MockTLSNotaryVerifier.present makes them"
            ) from None
        verdict = judge(
            opened,
            proof_hash=hashlib.sha256(presentation).hexdigest(),
            server_name=server_name,
            policy=policy or TLSNotaryPolicy(),
            trusted=self.options.notaries or (MOCK_NOTARY,),
            now=self._clock.now(),
            max_age=self.options.max_age,
            max_skew=self.options.max_skew,
        )
        return msgspec.structs.replace(verdict, mode="mock")

    async def facts(self) -> dict[str, str]:
        return {"mode": "mock: verifies nothing"}
