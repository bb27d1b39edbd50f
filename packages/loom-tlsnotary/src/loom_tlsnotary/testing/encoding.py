"""How presentations of alpha.11 and alpha.12 are written: bincode 1 for the wire, BCS for what is hashed.

Read off ``tlsn-core`` 0.1.0-alpha.12 (structs ``Presentation``, ``Attestation``, ``Body``, ``TranscriptProof``); both
formats write numbers little-endian, and differ in lengths and enum tags.
"""

from __future__ import annotations

import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["BCS", "BINCODE", "DOMAINS", "SHA256", "Format", "hashed", "merkle_root", "u32", "u64"]

Range = tuple[int, int]

SHA256 = 1
"""The number of the hash algorithm."""

DOMAINS: dict[str, bytes] = {
    "VerifyingKey": bytes.fromhex("aec37d45b99c4e4b637706b1e978a3eb"),
    "ConnectionInfo": bytes.fromhex("9d607992377bd411b39e6f8077397302"),
    "ServerEphemKey": bytes.fromhex("6ed20378bc30d1ee44a4185787ada2e5"),
    "ServerCertCommitment": bytes.fromhex("d0f7107feb7eec1e5793d2e8a2b696f0"),
    "TranscriptCommitment": bytes.fromhex("161bd651a50cb5fe173f69f255aebe9c"),
    "ServerCertOpening": bytes.fromhex("cbb4d536a2c6e5cd5d168c0c7dac5d8b"),
}
"""What a hashed value begins with: the first 16 bytes of BLAKE3 of the name of its type."""


def u32(value: int) -> bytes:
    """Four bytes, little-endian."""
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    """Eight bytes, little-endian."""
    return struct.pack("<Q", value)


class Format(ABC):
    """One of the two ways to write the same values."""

    @abstractmethod
    def length(self, value: int) -> bytes:
        """The length of a list."""

    @abstractmethod
    def tag(self, value: int) -> bytes:
        """The number of an enum's variant."""

    def blob(self, value: bytes) -> bytes:
        """A list of bytes."""
        return self.length(len(value)) + value

    def hash(self, value: bytes) -> bytes:
        """A SHA-256 with its algorithm."""
        return bytes([SHA256]) + self.blob(value)

    def ranges(self, ranges: Sequence[Range]) -> bytes:
        """A set of ranges."""
        return self.length(len(ranges)) + b"".join(u64(start) + u64(end) for start, end in ranges)


class _Bincode(Format):
    def length(self, value: int) -> bytes:
        return u64(value)

    def tag(self, value: int) -> bytes:
        return u32(value)


class _Bcs(Format):
    def length(self, value: int) -> bytes:
        encoded = bytearray()
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*encoded, value])

    tag = length


BINCODE = _Bincode()
BCS = _Bcs()


def hashed(*parts: bytes) -> bytes:
    """SHA-256 of the parts one after another."""
    return hashlib.sha256(b"".join(parts)).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over the leaves; one without a neighbour moves up as it is."""
    level = list(leaves)
    while len(level) > 1:
        level = [hashed(*level[at : at + 2]) if at + 1 < len(level) else level[at] for at in range(0, len(level), 2)]
    return level[0]
