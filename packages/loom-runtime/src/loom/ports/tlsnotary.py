"""TLSNotaryVerifier: which server said what and when, from a TLSNotary presentation."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from typing import Any, Literal, Self

import msgspec

from ..errors import ConfigurationError
from .port import Port

__all__ = [
    "AuthenticatedBytes", "HttpHeader", "HttpMessage", "NotaryKey", "TLSNotaryPolicy", "TLSNotaryVerdict",
    "TLSNotaryVerifier",
]  # fmt: skip

Range = tuple[int, int]

NotaryAlgorithm = Literal["secp256k1", "secp256r1"]


class NotaryKey(msgspec.Struct, frozen=True):
    """A notary's public key: the curve, and the compressed point of 33 bytes. As text ``secp256k1:02ab…``."""

    algorithm: NotaryAlgorithm
    data: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``CURVE:HEX``; without a curve it is secp256k1. Raises ConfigurationError."""
        curve, _, digits = text.strip().rpartition(":")
        try:
            key = cls(_CURVES[curve.lower()], bytes.fromhex(digits))
        except (KeyError, ValueError):
            key = None
        if key is None or len(key.data) != 33 or key.data[0] not in (2, 3):
            raise ConfigurationError(
                f"{text[:80]!r} is no notary key: write secp256k1: or secp256r1: and the 66 hexadecimal digits of the "
                "compressed public key"
            )
        return key

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.data.hex()}"


_CURVES: dict[str, NotaryAlgorithm] = {
    "": "secp256k1", "secp256k1": "secp256k1", "k256": "secp256k1", "secp256r1": "secp256r1", "p256": "secp256r1",
}  # fmt: skip


def _start(found: Range) -> int:
    return found[0]


class AuthenticatedBytes(msgspec.Struct, frozen=True):
    """One direction of a session. ``ranges`` (start, end; in order, apart) are proven; all other bytes are zero."""

    data: bytes
    ranges: tuple[Range, ...]

    @property
    def redacted(self) -> tuple[Range, ...]:
        """The ranges that were withheld: what ``ranges`` leaves."""
        edges = [0, *(edge for found in self.ranges for edge in found), len(self.data)]
        return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte from ``start`` to ``end`` is proven."""
        at = bisect_right(self.ranges, start, key=_start) - 1
        return start >= end or (at >= 0 and end <= self.ranges[at][1])


class HttpHeader(msgspec.Struct, frozen=True):
    """A header line. ``value`` is None where it is redacted, in part or whole.

    ``certain`` says that nothing before its end is redacted. After a redaction what looks like a header may be the
    body's text: a redaction can hide the end of the headers.
    """

    name: str
    value: str | None
    certain: bool


class HttpMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The first request or response of a session, as far as it is proven; what is not is None, or missing.

    ``body`` has its transfer coding undone, and gzip where nothing of it is redacted; ``body_redacted`` are the ranges
    of it that are zeros instead of data. ``body_certain`` says that its bounds are proven too: nothing of the head is
    redacted, and the body is there to the end that its length or its chunks give it.
    """

    method: str | None = None
    target: str | None = None
    status: int | None = None
    headers: tuple[HttpHeader, ...] = ()
    body: bytes | None = None
    body_redacted: tuple[Range, ...] = ()
    body_certain: bool = False

    def header(self, name: str) -> str | None:
        """The value of the first certain header of this name (in any case), or None."""
        wanted = name.lower()
        return next((h.value for h in self.headers if h.certain and h.name.lower() == wanted), None)


class TLSNotaryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks of a presentation beyond its being genuine.

    ``require_fields`` are JSON pointers (RFC 6901) into the response's body: each must be proven together with all
    that stands before it. ``max_age`` (seconds) takes the place of the verifier's own. With ``trust_framing`` the body
    may also follow redacted headers, or have no length: then it rests on the prover's word that these hide no end of
    the headers and that nothing was cut off, and the server must be one that never repeats what others wrote.
    """

    require_fields: tuple[str, ...] = ()
    max_age: float | None = None
    trust_framing: bool = False


class TLSNotaryVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a presentation proves. There is one only for a presentation that passed every check.

    ``time`` (Unix) is when the session began, by the notary's clock. ``proof_hash`` is the SHA-256 of the
    presentation, in hexadecimal. ``fields`` are the values of the policy's ``require_fields``. ``redacted_ranges``
    are what ``sent`` and ``received`` withhold. ``mode`` is ``mock`` where nothing at all was proven.
    """

    verified: bool
    mode: Literal["wasm", "mock"]
    server_name: str
    time: float
    notary_key: NotaryKey
    proof_hash: str
    sent: AuthenticatedBytes
    received: AuthenticatedBytes
    request: HttpMessage
    response: HttpMessage | None
    fields: dict[str, Any] = {}

    @property
    def redacted_ranges(self) -> dict[str, tuple[Range, ...]]:
        """The withheld ranges by direction, ``sent`` and ``received``."""
        return {"sent": self.sent.redacted, "received": self.received.redacted}


class TLSNotaryVerifier(Port):
    """Verifies presentations. A verdict depends on the presentation, the arguments, the settings and the time alone.

    So ``await ctx.step(verifier.verify)(presentation, "api.example.com")`` may run twice.
    """

    @abstractmethod
    async def verify(
        self, presentation: bytes, server_name: str, policy: TLSNotaryPolicy | None = None
    ) -> TLSNotaryVerdict:
        """What the server ``server_name`` said, by a notary that is trusted.

        Raises a TLSNotaryError that names the check which failed: PresentationFormatError, PresentationInvalidError
        (a signature, hash or certificate is wrong), NotaryNotTrustedError, PresentationExpiredError,
        PresentationFromFutureError, IdentityMissingError, TranscriptMissingError, ServerNameMismatchError,
        HostMismatchError, UnauthenticatedDataError, FieldNotAuthenticatedError; VerificationLimitError where the
        presentation wants more memory, work or time than it gets.
        """
