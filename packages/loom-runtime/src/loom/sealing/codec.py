"""SealingCodec: journal entries, snapshots and queued messages, sealed on their way to the stores."""

from __future__ import annotations

import itertools
import os
from functools import lru_cache
from typing import Any

from ..codec import PayloadCodec
from ..errors import SealError
from .keyring import Keyring, SealingKey
from .seal import aead

__all__ = ["SealingCodec"]

_MARK = b"\x00loom-sealed-1"
_SALT, _NONCE = 16, 12
_MOST = 2**32


class SealingCodec(PayloadCodec):
    """Seals payloads with AES-256-GCM: ``Loom(payload_codecs=[SealingCodec()])``, on every host and client alike.

    The first key of the keyring seals, all of them open. A codec seals under a key of its own, derived from the first
    (HKDF with SHA-256, RFC 5869) by a random salt that stands before each payload, and counts its nonces, so that no
    nonce is used twice however many hosts seal how much.

    What it can't tell: whether a sealed payload was moved from one stream to another, for a codec does not know of
    streams; the journal's own checks find a changed order within one. A payload stays under the key that sealed it as
    long as it is kept: keep a key in the keyring until what it sealed is trimmed away.
    """

    def __init__(self, keyring: Keyring | None = None, *, accept_plain: bool = False) -> None:
        """``keyring`` is that of the environment if None. ``accept_plain`` also reads what was stored before sealing
        was switched on; without it, such a payload is an error.

        Raises ConfigurationError without keys, or without the package ``cryptography``.
        """
        self._keyring = keyring or Keyring.from_environment()
        self._accept_plain = accept_plain
        self._opener = lru_cache(maxsize=1024)(self._cipher)
        self._begin()

    def encode(self, data: bytes) -> bytes:
        """The sealed bytes: a mark, the key's id, the salt, the nonce, and what AES-GCM made."""
        number = next(self._numbers)
        if number >= _MOST:
            self._begin()
            number = next(self._numbers)
        nonce = number.to_bytes(_NONCE, "big")
        sealed: bytes = self._sealer.encrypt(nonce, data, self._head)
        return self._head + nonce + sealed

    def decode(self, data: bytes) -> bytes:
        """The bytes that were sealed. Raises SealError, and SealKeyError without the key."""
        if not data.startswith(_MARK):
            if self._accept_plain:
                return data
            raise SealError(
                "a payload is not sealed, and sealing is on; if it is from before that, use "
                "SealingCodec(accept_plain=True) until it is gone"
            )
        from cryptography.exceptions import InvalidTag

        try:
            length = data[len(_MARK)]
            end_of_id = len(_MARK) + 1 + length
            id = data[len(_MARK) + 1 : end_of_id].decode()
            end = end_of_id + _SALT
            opener = self._opener(self._keyring.key(id), data[end_of_id:end])
            plain: bytes = opener.decrypt(data[end : end + _NONCE], data[end + _NONCE :], data[:end])
        except (InvalidTag, IndexError, UnicodeDecodeError, ValueError):
            raise SealError(
                "a sealed payload does not open: it was changed, or another key of that id sealed it"
            ) from None
        return plain

    def _begin(self) -> None:
        key, salt = self._keyring.primary, os.urandom(_SALT)
        id = key.id.encode()
        self._head = _MARK + bytes([len(id)]) + id + salt
        self._sealer = self._cipher(key, salt)
        self._numbers = itertools.count()

    @staticmethod
    def _cipher(key: SealingKey, salt: bytes) -> Any:
        try:
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError:
            return aead(key.material)  # which says what to install
        return aead(HKDF(hashes.SHA256(), length=32, salt=salt, info=b"loom payloads").derive(key.material))
