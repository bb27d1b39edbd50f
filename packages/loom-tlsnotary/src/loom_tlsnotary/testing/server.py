"""The server of test presentations: a certificate by the test authority, and the signature of a handshake."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .encoding import Format

__all__ = ["Identity", "authority_point", "make_identity", "secret"]


_ISSUER = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "HU"),
        x509.NameAttribute(NameOID.LOCALITY_NAME, "Budapest"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Microsec Ltd."),
        x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, "VATHU-23584497"),
        x509.NameAttribute(NameOID.COMMON_NAME, "e-Szigno Root CA 2017"),
    ]
)
"""The subject of the root whose key the test module replaces."""

_ECDSA_P256_SHA256 = 3  # the number of the signature scheme in the format


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What opens the notary's commitment to the server's certificate."""

    certificates: tuple[bytes, ...]
    signature: bytes
    client_random: bytes
    server_random: bytes
    ephemeral: bytes

    def opening(self, form: Format, blinder: bytes) -> bytes:
        """As it is written and, in BCS, hashed."""
        chain = form.length(len(self.certificates)) + b"".join(map(form.blob, self.certificates))
        signed = form.tag(_ECDSA_P256_SHA256) + form.blob(self.signature)
        key = form.tag(0) + form.blob(self.ephemeral)
        return chain + signed + form.tag(0) + self.client_random + self.server_random + key + blinder


def secret(purpose: str) -> int:
    """A secret key that everybody knows."""
    return int.from_bytes(hashlib.sha256(f"loom test {purpose}: proves nothing".encode()).digest(), "big")


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def authority_point() -> bytes:
    """The public key of the test authority, uncompressed (P-256)."""
    return _point(ec.derive_private_key(secret("authority"), ec.SECP256R1()))


def make_identity(names: Sequence[str], at: float) -> Identity:
    """A server whose certificate is for ``names`` and valid for a day around ``at`` (Unix time)."""
    authority = ec.derive_private_key(secret("authority"), ec.SECP256R1())
    leaf = ec.derive_private_key(secret("server"), ec.SECP256R1())
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loom test server")]))
        .issuer_name(_ISSUER)
        .public_key(leaf.public_key())
        .serial_number(1)
        .not_valid_before(moment - dt.timedelta(days=1))
        .not_valid_after(moment + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority, hashes.SHA256())
    )
    ephemeral = _point(ec.derive_private_key(secret("session"), ec.SECP256R1()))
    randoms = hashlib.sha256(b"client").digest(), hashlib.sha256(b"server").digest()
    exchange = b"\3\0\x17" + bytes([len(ephemeral)]) + ephemeral  # ServerECDHParams of RFC 8422
    return Identity(
        certificates=(certificate.public_bytes(serialization.Encoding.DER),),
        signature=leaf.sign(b"".join(randoms) + exchange, ec.ECDSA(hashes.SHA256())),
        client_random=randoms[0],
        server_random=randoms[1],
        ephemeral=ephemeral,
    )
