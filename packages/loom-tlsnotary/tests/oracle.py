"""An independent verifier of presentations by TLSNotary 0.1.0-alpha.11 and alpha.12, in pure Python: a test oracle.

Written from the format and the protocol, sharing no code with the package. It knows hash commitments only, which is
what the test notary makes, and P-256 certificates.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import blake3
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

T = TypeVar("T")
Range = tuple[int, int]


class Refused(Exception):
    """The presentation proves nothing."""


class Reader:
    """bincode 1 with fixed integers, little-endian."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise Refused("cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def blob(self) -> bytes:
        return self.take(self.u64())

    def many(self, one: Callable[[], T]) -> list[T]:
        count = self.u64()
        if count > len(self.data):
            raise Refused("a list longer than the data")
        return [one() for _ in range(count)]

    def maybe(self, one: Callable[[], T]) -> T | None:
        tag = self.u8()
        if tag > 1:
            raise Refused("neither there nor not")
        return one() if tag else None

    def tag(self, variants: int) -> int:
        value = self.u32()
        if value >= variants:
            raise Refused("an unknown variant")
        return value

    def hash(self) -> tuple[int, bytes]:
        return self.u8(), self.blob()

    def ranges(self) -> tuple[Range, ...]:
        found = self.many(lambda: (self.u64(), self.u64()))
        last = -1
        for start, end in found:
            if start >= end or start <= last:
                raise Refused("ranges out of order")
            last = end
        return tuple(found)

    def key(self) -> tuple[int, bytes]:
        return self.u8(), self.blob()


def uleb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def blob(data: bytes) -> bytes:
    return uleb(len(data)) + data


def digest(algorithm: int, *parts: bytes) -> bytes:
    if algorithm == 1:
        return hashlib.sha256(b"".join(parts)).digest()
    if algorithm == 2:
        return blake3.blake3(b"".join(parts)).digest()
    raise Refused("an unknown hash")


def domain(name: str) -> bytes:
    return blake3.blake3(name.encode()).digest()[:16]


def hash_bytes(value: tuple[int, bytes]) -> bytes:
    return bytes([value[0]]) + blob(value[1])


def range_bytes(ranges: Sequence[Range]) -> bytes:
    return uleb(len(ranges)) + b"".join(struct.pack("<QQ", *one) for one in ranges)


def read_commitment(reader: Reader) -> tuple[int, tuple[Range, ...], tuple[int, bytes]]:
    if reader.tag(2) == 0:
        raise Refused("an encoding commitment, which this oracle does not know")
    return reader.tag(2), reader.ranges(), reader.hash()


def read_identity(reader: Reader) -> dict[str, Any]:
    try:
        name = reader.blob().decode()
    except UnicodeDecodeError:
        raise Refused("a name that is no text") from None
    found: dict[str, Any] = {"name": name, "certs": reader.many(reader.blob), "scheme": reader.tag(12)}
    found["sig"] = reader.blob()
    reader.tag(1)
    found["randoms"] = reader.take(64)
    reader.tag(1)
    found["key"], found["blinder"] = reader.blob(), reader.take(16)
    return found


def read_transcript(reader: Reader) -> dict[str, Any]:
    found: dict[str, Any] = {"shown": (reader.blob(), reader.blob()), "ranges": (reader.ranges(), reader.ranges())}
    found["total"] = (reader.u64(), reader.u64())
    if reader.maybe(lambda: True):
        raise Refused("an encoding proof, which this oracle does not know")
    found["secrets"] = reader.many(lambda: (reader.tag(2), reader.ranges(), reader.u8(), reader.take(16)))
    return found


def check_tree(root: tuple[int, bytes], leaves: list[tuple[int, bytes]], count: int, proof: list[bytes]) -> None:
    known = dict(leaves)
    if len(known) != len(leaves) or max(known) >= count:
        raise Refused("leaves twice, or outside the tree")
    while count > 1:
        above: dict[int, bytes] = {}
        for at in sorted(known):
            other = at ^ 1
            if other not in known and other < count:
                if not proof:
                    raise Refused("a proof too short")
                known[other] = proof.pop(0)
            left, right = known[at & ~1], known.get(at | 1)
            above[at // 2] = left if right is None else digest(root[0], left, right)
        known, count = above, (count + 1) // 2
    if proof or known[0] != root[1]:
        raise Refused("the tree has another root")


def check_identity(identity: dict[str, Any], committed: tuple[int, bytes], key: bytes, at: int, root: x509.Certificate
                   ) -> None:  # fmt: skip
    certs = b"".join(map(blob, identity["certs"]))
    opening = uleb(len(identity["certs"])) + certs + uleb(identity["scheme"]) + blob(identity["sig"]) + b"\0"
    opening += identity["randoms"] + b"\0" + blob(identity["key"]) + identity["blinder"]
    if digest(committed[0], domain("ServerCertOpening"), opening) != committed[1] or identity["key"] != key:
        raise Refused("another certificate than the one committed to")
    leaf = x509.load_der_x509_certificate(identity["certs"][0])
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc or leaf.issuer != root.subject:
        raise Refused("the certificate is not valid then")
    authority = root.public_key()
    public = leaf.public_key()
    assert isinstance(authority, ec.EllipticCurvePublicKey)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    authority.verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    if not any(covers(name, identity["name"].lower()) for name in names) or identity["scheme"] != 3:
        raise Refused("the certificate is of another")
    signed = identity["randoms"] + b"\3\0\x17" + bytes([len(key)]) + key
    public.verify(identity["sig"], signed, ec.ECDSA(hashes.SHA256()))


def covers(pattern: str, name: str) -> bool:
    first, _, rest = name.partition(".")
    return pattern == name or (pattern.startswith("*.") and pattern[2:] == rest and bool(first))


def check_transcript(found: dict[str, Any], info: tuple[int, int], commitments: list[Any]) -> None:
    if found["total"] != info:
        raise Refused("another length than the one committed to")
    data = []
    for shown, ranges, total in zip(found["shown"], found["ranges"], found["total"], strict=True):
        if (ranges and ranges[-1][1] > total) or sum(b - a for a, b in ranges) != len(shown):
            raise Refused("ranges that do not fit the data")
        whole, at = bytearray(total), 0
        for start, end in ranges:
            whole[start:end] = shown[at : at + end - start]
            at += end - start
        data.append(bytes(whole))
    proven: tuple[set[int], set[int]] = (set(), set())
    for direction, ranges, algorithm, blinder in found["secrets"]:
        if ranges and ranges[-1][1] > len(data[direction]):
            raise Refused("a range outside the data")
        content = b"".join(data[direction][a:b] for a, b in ranges)
        if (direction, ranges, (algorithm, digest(algorithm, content, blinder))) not in commitments:
            raise Refused("opens no commitment")
        proven[direction].update(at for a, b in ranges for at in range(a, b))
    for direction in (0, 1):
        if proven[direction] != {at for a, b in found["ranges"][direction] for at in range(a, b)}:
            raise Refused("shows more, or less, than it proves")


def verify(data: bytes, root: x509.Certificate) -> None:
    """Raises an exception unless the presentation is right in every part that a notary or a server has signed."""
    reader = Reader(data)
    signature = (reader.u8(), reader.blob())
    uid, version, root_hash = reader.take(16), reader.u32(), reader.hash()
    fields: list[tuple[int, str, bytes]] = []
    numbers = [reader.u32()]
    key = reader.key()
    numbers.append(reader.u32())
    at, tls, sent, received = reader.u64(), reader.tag(2), reader.u32(), reader.u32()
    numbers.append(reader.u32())
    ephemeral = (reader.tag(1), reader.blob())[1]
    numbers.append(reader.u32())
    certificate = reader.hash()
    info = struct.pack("<Q", at) + uleb(tls) + struct.pack("<II", sent, received)
    values = [bytes([key[0]]) + blob(key[1]), info, b"\0" + blob(ephemeral), hash_bytes(certificate)]
    names = ["VerifyingKey", "ConnectionInfo", "ServerEphemKey", "ServerCertCommitment"]
    fields += zip(numbers, names, values, strict=True)
    for number, first, second in reader.many(lambda: (reader.u32(), reader.blob(), reader.blob())):
        fields.append((number, "Extension", blob(first) + blob(second)))
    commitments = reader.many(lambda: (reader.u32(), read_commitment(reader)))
    for number, (direction, ranges, value) in commitments:
        written = b"\1" + uleb(direction) + range_bytes(ranges) + hash_bytes(value)
        fields.append((number, "TranscriptCommitment", written))
    reader.u8()  # which hash the tree has by its own words; by the signed root's it is checked
    leaf_count, proof = reader.u64(), reader.many(reader.blob)
    identity = reader.maybe(lambda: read_identity(reader))
    transcript = reader.maybe(lambda: read_transcript(reader))
    if reader.at != len(data):
        raise Refused("more than a presentation")
    leaves = [(number, digest(root_hash[0], domain(name), value)) for number, name, value in fields]
    check_tree(root_hash, leaves, leaf_count, proof)
    if signature[0] != key[0] or key[0] not in (1, 2) or len(signature[1]) != 64:
        raise Refused("another algorithm")
    curve = ec.SECP256K1() if key[0] == 1 else ec.SECP256R1()
    r, s = int.from_bytes(signature[1][:32], "big"), int.from_bytes(signature[1][32:], "big")
    header = uid + struct.pack("<I", version) + hash_bytes(root_hash)
    public = ec.EllipticCurvePublicKey.from_encoded_point(curve, key[1])
    public.verify(encode_dss_signature(r, s), header, ec.ECDSA(hashes.SHA256()))
    if identity is not None:
        check_identity(identity, certificate, ephemeral, at, root)
    if transcript is not None:
        check_transcript(transcript, (sent, received), [value for _, value in commitments])


def accepts(data: bytes, root: x509.Certificate) -> bool:
    """Whether ``verify`` finds nothing wrong."""
    try:
        verify(data, root)
    except (Refused, InvalidSignature, ValueError, x509.ExtensionNotFound, OverflowError, OSError):
        return False
    return True
