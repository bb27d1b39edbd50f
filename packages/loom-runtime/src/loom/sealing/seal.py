"""Sealer: bytes that nobody reads without the key, and that can't be changed or moved unnoticed."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ..errors import ConfigurationError, SealError
from .keyring import Keyring, SealingKey

__all__ = ["Sealed", "Sealer", "aead"]

_NONCE = 12


class Sealed(msgspec.Struct, frozen=True):
    """Sealed bytes, with the id of the key and the nonce. None of it is secret."""

    key: str
    nonce: bytes
    data: bytes


class Sealer:
    """Seals with AES-256-GCM (NIST SP 800-38D): a random nonce of 96 bits for each, and a tag of 128 bits.

    ``bound`` is what the bytes belong to, for example the store, the name and the version. It is not stored with
    them: to open them it must be given again, so that what was put in another's place does not open. One key may seal
    2**32 times; secrets are far from it.
    """

    def __init__(self, keyring: Keyring) -> None:
        """Raises ConfigurationError when the package ``cryptography`` is not installed."""
        self.keyring = keyring
        self._ciphers: dict[str, Any] = {}
        self._cipher(keyring.primary)

    def seal(self, plain: bytes, *bound: str) -> Sealed:
        """Seal under the primary key."""
        key, nonce = self.keyring.primary, os.urandom(_NONCE)
        return Sealed(key.id, nonce, self._cipher(key).encrypt(nonce, plain, _associated(bound)))

    def open(self, sealed: Sealed, *bound: str) -> bytes:
        """The bytes. Raises SealKeyError without the key, SealError when they were changed or belong elsewhere."""
        cipher = self._cipher(self.keyring.key(sealed.key))
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = cipher.decrypt(sealed.nonce, sealed.data, _associated(bound))
        except (InvalidTag, ValueError):
            what = "/".join(bound)
            raise SealError(
                f"{what} does not open under key {sealed.key!r}: it was changed, put in another's place, or sealed by "
                "another key of the same id; restore it from a backup, or set it anew",
                bound=what,
                key=sealed.key,
            ) from None
        return plain

    def stale(self, sealed: Sealed) -> bool:
        """Whether another key than the primary one has sealed it."""
        return sealed.key != self.keyring.primary.id

    def _cipher(self, key: SealingKey) -> Any:
        if key.id not in self._ciphers:
            self._ciphers[key.id] = aead(key.material)
        return self._ciphers[key.id]


def aead(material: bytes) -> Any:
    """AES-GCM under this key. Raises ConfigurationError when the package ``cryptography`` is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigurationError(
            "sealing needs the package cryptography; pip install 'loom-runtime[secrets]'", package="cryptography"
        ) from error
    return AESGCM(material)


def _associated(bound: tuple[str, ...]) -> bytes:
    # Lengths stand before the parts, so that ("ab", "c") and ("a", "bc") differ.
    return msgspec.msgpack.encode(("loom", *bound))
