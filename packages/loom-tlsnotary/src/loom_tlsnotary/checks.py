"""The checks that the module does not make. Pure Python; each has an error of its own.

``Presentation.verify`` of tlsn-wasm 0.1.0-alpha.12 checks the notary's signature, the hashes, the commitments and the
certificate chain. It takes any notary, any age, and any server name that the certificate covers, as the name is not
part of what the notary signed; identity and transcript may both be missing.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from loom.errors import (
    HostMismatchError,
    IdentityMissingError,
    InvalidKeyError,
    NotaryNotTrustedError,
    PresentationExpiredError,
    PresentationFromFutureError,
    ServerNameMismatchError,
    TranscriptMissingError,
    UnauthenticatedDataError,
)
from loom.ports import AuthenticatedBytes, HttpMessage, NotaryKey, TLSNotaryPolicy, TLSNotaryVerdict

from .fields import require_fields
from .http import host_of_target, parse_request, parse_response
from .opened import Opened

__all__ = ["judge"]


def judge(
    opened: Opened,
    *,
    proof_hash: str,
    server_name: str,
    policy: TLSNotaryPolicy,
    trusted: Collection[NotaryKey],
    now: float,
    max_age: float,
    max_skew: float,
) -> TLSNotaryVerdict:
    """The verdict on what the module has opened. Raises the error of the first check that fails.

    In this order: notary, time, presence of identity and transcript, server name, ranges, host, fields.
    """
    wanted = _name(server_name)
    _check_notary(opened.notary_key, trusted)
    _check_time(opened.time, now, max_age if policy.max_age is None else policy.max_age, max_skew)
    if opened.server_name is None:
        raise IdentityMissingError("the presentation leaves out the server's identity: it proves no server's words")
    if opened.sent is None or opened.received is None:
        raise TranscriptMissingError("the presentation leaves out the transcript: it shows nothing that was said")
    if opened.server_name.lower() != wanted:
        raise ServerNameMismatchError(
            f"the presentation is of {opened.server_name[:253]!r}, not of {wanted!r}",
            server_name=opened.server_name[:253], expected=wanted,
        )  # fmt: skip
    _check_ranges(opened.sent, "sent")
    _check_ranges(opened.received, "received")
    request = parse_request(opened.sent)
    _check_host(request, wanted)
    assert request is not None, "the host was found in it"
    response = parse_response(opened.received, request.method)
    return TLSNotaryVerdict(
        verified=True,
        mode="wasm",
        server_name=wanted,
        time=float(opened.time),
        notary_key=opened.notary_key,
        proof_hash=proof_hash,
        sent=opened.sent,
        received=opened.received,
        request=request,
        response=response,
        fields=require_fields(response, policy),
    )


def _name(server_name: str) -> str:
    wanted = server_name.lower()
    labels = wanted.split(".")
    if not wanted.isascii() or not all(
        label and all(c.isalnum() or c in "-_" for c in label) and len(label) < 64 for label in labels
    ):
        raise InvalidKeyError(
            f"{server_name[:80]!r} is no server name: give the exact DNS name, as api.example.com, without wildcard, "
            "port or scheme", what="server name",
        )  # fmt: skip
    return wanted


def _check_notary(key: NotaryKey, trusted: Collection[NotaryKey]) -> None:
    if key not in trusted:
        raise NotaryNotTrustedError(
            f"signed by the notary {key}, which is not among the {len(trusted)} that are trusted", notary_key=str(key)
        )


def _check_time(at: int, now: float, max_age: float, max_skew: float) -> None:
    if at > now + max_skew:
        raise PresentationFromFutureError(
            f"the session is of {_shown(at)}, {at - now:.0f} s from now; up to {max_skew:g} s are taken for "
            "clocks that differ", time=at,
        )  # fmt: skip
    if now - at > max_age:
        raise PresentationExpiredError(
            f"the session is of {_shown(at)}, {now - at:.0f} s ago; it may be {max_age:g} s old", time=at
        )


def _shown(at: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return f"Unix time {at}"


def _check_ranges(part: AuthenticatedBytes, what: str) -> None:
    """Hold the module to its word: ranges in order and in bounds, and zeros everywhere else."""
    last = 0
    for start, end in part.ranges:
        if not last <= start < end <= len(part.data):
            raise UnauthenticatedDataError(f"the authenticated ranges of what was {what} are not in order, or outside")
        last = end
    for start, end in part.redacted:
        if part.data.count(0, start, end) != end - start:
            raise UnauthenticatedDataError(f"bytes {start} to {end} of what was {what} are shown and not proven")


def _check_host(request: HttpMessage | None, wanted: str) -> None:
    """The session is the server's by the certificate; by this header the server answered in that name."""
    if request is None or request.method is None:
        raise HostMismatchError("what was sent does not begin with a proven HTTP/1 request line, so it names no host")
    named = [header for header in request.headers if header.name.lower() == "host"]
    if not any(header.certain for header in named):
        raise HostMismatchError(
            "no Host header is proven: reveal it, and all that stands before it (a redaction before it could hide "
            "where the request's headers end)"
        )
    for text in [header.value for header in named] + [host_of_target(request.target)]:
        if text is not None and _host(text) != wanted:
            raise HostMismatchError(
                f"the request is to the host {text[:253]!r}, not to {wanted!r}", host=text[:253], expected=wanted
            )
    if len(named) != 1:
        raise HostMismatchError("the request has more than one Host header")


def _host(text: str) -> str:
    name, colon, port = text.lower().rpartition(":")
    return name if colon and port.isascii() and port.isdigit() else text.lower()
