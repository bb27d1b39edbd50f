"""TestNotary: presentations in the format of TLSNotary 0.1.0-alpha.11 and alpha.12, of sessions that never were."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from loom.ports import NotaryKey

from ..production import refuse_in_production
from .encoding import BCS, BINCODE, DOMAINS, SHA256, Format, hashed, merkle_root, u32, u64
from .server import Identity, make_identity, secret

__all__ = ["Session", "TestNotary"]

Range = tuple[int, int]

_K256_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

_REQUEST = b"GET / HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the notary would have seen it. ``revealed`` ranges are shown, each by a commitment of its own."""

    sent: bytes
    received: bytes
    revealed_sent: tuple[Range, ...]
    revealed_received: tuple[Range, ...]
    at: int
    names: tuple[str, ...]


class TestNotary:
    """Signs what it is handed, with a key that is published: for tests of code that verifies presentations.

    Its presentations are well-formed and verified by ``TestTLSNotaryVerifier``; they are evidence of nothing. Raises
    ProductionGuardError in production. ``key`` is what to trust in a test.
    """

    __test__ = False  # pytest collects classes by this name

    def __init__(
        self, curve: Literal["k256", "p256"] = "k256", *, environ: Mapping[str, str] | None = None, name: str = "notary"
    ) -> None:
        refuse_in_production("loom_tlsnotary.testing.TestNotary", environ)
        self._number = {"k256": 1, "p256": 2}[curve]
        self._private = ec.derive_private_key(secret(name), ec.SECP256K1() if curve == "k256" else ec.SECP256R1())
        point = self._private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        self.key = NotaryKey("secp256k1" if curve == "k256" else "secp256r1", point)

    def present(
        self,
        response: bytes,
        *,
        server_name: str = "example.test",
        request: bytes | None = None,
        hide_request: Sequence[bytes] = (),
        hide_response: Sequence[bytes] = (),
        at: float | None = None,
        identity: bool = True,
        transcript: bool = True,
        certificate_names: Sequence[str] = (),
    ) -> bytes:
        """A presentation of a session in which ``server_name`` answered ``request`` by ``response``.

        Every place where a text of ``hide_request`` or ``hide_response`` stands is redacted. ``at`` is Unix time,
        now if None. ``certificate_names`` are the names that the certificate covers, the server's own if empty.
        """
        sent = _REQUEST % server_name.encode() if request is None else request
        session = Session(
            sent=sent,
            received=response,
            revealed_sent=_without(sent, hide_request),
            revealed_received=_without(response, hide_response),
            at=int(time.time() if at is None else at),
            names=tuple(certificate_names) or (server_name,),
        )
        return self.sign(session, server_name if identity else None, transcript=transcript)

    def sign(self, session: Session, server_name: str | None, *, transcript: bool = True) -> bytes:
        """The presentation of a session; without a server's name it leaves out the identity."""
        server = make_identity(session.names, session.at)
        blinder = os.urandom(16)
        opening = hashed(DOMAINS["ServerCertOpening"], server.opening(BCS, blinder))
        openings = _openings(session) if transcript else []
        written = [_fields(self._number, self.key.data, session, server, opening, openings, form) for form in _FORMS]
        leaves = [hashed(DOMAINS[name], value) for name, value in written[0]]
        root, uid = merkle_root(leaves), os.urandom(16)
        signature = self._sign(uid + u32(0) + BCS.hash(root))
        numbered = [u32(number) + value for number, (_, value) in enumerate(written[1])]
        parts = [
            bytes([self._number]), BINCODE.blob(signature), uid, u32(0), BINCODE.hash(root), *numbered[:4],
            BINCODE.length(0),  # extensions
            BINCODE.length(len(openings)), *numbered[4:],
            bytes([SHA256]), u64(len(leaves)), BINCODE.length(0),  # every leaf is there, so no hash is needed
        ]  # fmt: skip
        if server_name is None:
            parts.append(b"\0")
        else:
            parts += [b"\1", BINCODE.blob(server_name.encode()), server.opening(BINCODE, blinder)]
        parts += _transcript(session, openings) if transcript else [b"\0"]
        return b"".join(parts)

    def _sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._private.sign(message, ec.ECDSA(hashes.SHA256())))
        if self._number == 1 and s > _K256_ORDER // 2:
            s = _K256_ORDER - s  # secp256k1 signatures are taken in their lower form only
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class _Opening(msgspec.Struct, frozen=True):
    """A committed range of one direction (0 sent, 1 received), and what opens the commitment."""

    direction: int
    range: Range
    blinder: bytes
    hash: bytes


_FORMS: tuple[Format, Format] = (BCS, BINCODE)


def _openings(session: Session) -> list[_Opening]:
    found = []
    for direction, data, revealed in (
        (0, session.sent, session.revealed_sent),
        (1, session.received, session.revealed_received),
    ):
        for start, end in revealed:
            blinder = os.urandom(16)
            found.append(_Opening(direction, (start, end), blinder, hashed(data[start:end], blinder)))
    return found


def _fields(
    number: int,
    key: bytes,
    session: Session,
    server: Identity,
    opening: bytes,
    openings: Sequence[_Opening],
    form: Format,
) -> list[tuple[str, bytes]]:
    """The fields of the attestation's body, in order."""
    info = u64(session.at) + form.tag(0) + u32(len(session.sent)) + u32(len(session.received))
    commitments = [
        form.tag(1) + form.tag(one.direction) + form.ranges([one.range]) + form.hash(one.hash) for one in openings
    ]
    return [
        ("VerifyingKey", bytes([number]) + form.blob(key)),
        ("ConnectionInfo", info),
        ("ServerEphemKey", form.tag(0) + form.blob(server.ephemeral)),
        ("ServerCertCommitment", form.hash(opening)),
        *(("TranscriptCommitment", commitment) for commitment in commitments),
    ]


def _transcript(session: Session, openings: Sequence[_Opening]) -> list[bytes]:
    shown = [
        b"".join(data[start:end] for start, end in revealed)
        for data, revealed in (
            (session.sent, session.revealed_sent),
            (session.received, session.revealed_received),
        )
    ]
    secrets = [
        BINCODE.tag(one.direction) + BINCODE.ranges([one.range]) + bytes([SHA256]) + one.blinder for one in openings
    ]
    return [
        b"\1", *map(BINCODE.blob, shown),
        BINCODE.ranges(session.revealed_sent), BINCODE.ranges(session.revealed_received),
        u64(len(session.sent)), u64(len(session.received)),
        b"\0",  # no encoding commitment
        BINCODE.length(len(secrets)), *secrets,
    ]  # fmt: skip


def _without(data: bytes, hidden: Sequence[bytes]) -> tuple[Range, ...]:
    """What is left of ``data`` without every place where one of ``hidden`` stands."""
    covered = bytearray(len(data))
    for text in hidden:
        position = data.find(text)
        if position < 0 or not text:
            raise ValueError(f"{text!r} is not there, so it cannot be hidden")
        while position >= 0:
            covered[position : position + len(text)] = b"\1" * len(text)
            position = data.find(text, position + 1)
    found: list[Range] = []
    start = None
    for at in range(len(data) + 1):
        shown = at < len(data) and not covered[at]
        if shown and start is None:
            start = at
        elif not shown and start is not None:
            found.append((start, at))
            start = None
    return tuple(found)
