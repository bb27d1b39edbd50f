"""Keyring: the keys that seal, by id. They come from a variable or a file, never from where the data lies."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import ConfigurationError, SealKeyError

__all__ = ["KEYS", "KEYS_FILE", "Keyring", "SealingKey", "new_key"]

KEYS = "LOOM_SECRETS_KEYS"
"""The variable that holds the keys themselves, ``id:base64`` each, separated by commas; the first one seals."""

KEYS_FILE = "LOOM_SECRETS_KEYS_FILE"
"""The variable that names a file of keys, one ``id:base64`` a line; ``#`` begins a comment. The first one seals."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_BYTES = 32


class SealingKey:
    """A key of 256 bits with its id. Shows its id only, and can't be pickled."""

    __slots__ = ("id", "material")

    def __init__(self, id: str, material: bytes) -> None:
        """Raises ConfigurationError, without the key, for an id or a length that does not fit."""
        if not _ID.fullmatch(id):
            raise ConfigurationError("a sealing key's id is 1 to 32 of letters, digits and . _ -, as in 2026-11:BASE64")
        if len(material) != _BYTES:
            raise ConfigurationError(f"sealing key {id!r} has {len(material)} bytes; 32 are needed (AES-256)", key=id)
        self.id = id
        self.material = material

    def __repr__(self) -> str:
        return f"SealingKey({self.id!r}, ***)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SealingKey cannot be pickled")


class Keyring:
    """Keys by id. The first seals; all of them open, so that a key can be replaced while data of the old one is left.

    To replace a key, put the new one before it on every host, re-seal (``loom secrets reseal``), then drop the old.
    """

    def __init__(self, keys: Sequence[SealingKey], source: str = "the program") -> None:
        """``source`` says where they are from. Raises ConfigurationError for no key, or two of one id."""
        if not keys:
            raise ConfigurationError(f"{source} holds no sealing key; {_MAKE}")
        self._keys = {key.id: key for key in keys}
        if len(self._keys) != len(keys):
            raise ConfigurationError(
                f"{source} holds two sealing keys of one id; ids are how sealed data finds its key"
            )
        self.source = source

    @classmethod
    def parse(cls, text: str, source: str = "the text") -> Keyring:
        """Keys as ``id:base64``, separated by commas or line ends. Errors name ``source`` and the number of the key."""
        keys = []
        lines = [line.partition("#")[0] for line in text.splitlines()]
        entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
        for number, entry in enumerate(entries, 1):
            id, separator, encoded = entry.partition(":")
            try:
                if not separator:
                    raise ValueError
                material = base64.b64decode(encoded.strip(), validate=True)
            except (binascii.Error, ValueError):
                # Not chained: the cause would show the key.
                raise ConfigurationError(f"{source}, key {number}: write ID:BASE64; {_MAKE}") from None
            try:
                keys.append(SealingKey(id.strip(), material))
            except ConfigurationError as error:
                raise ConfigurationError(f"{source}, key {number}: {error}", **error.context) from None
        return cls(keys, source)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Keyring:
        """The keys of ``LOOM_SECRETS_KEYS_FILE`` or ``LOOM_SECRETS_KEYS``. Reads the file.

        Raises ConfigurationError when neither or both are set, or the file can't be read, and says how to make a key.
        """
        file, text = environ.get(KEYS_FILE, ""), environ.get(KEYS, "")
        if file and text:
            raise ConfigurationError(f"both {KEYS_FILE} and {KEYS} are set; leave one, so that it is clear which seals")
        if text:
            return cls.parse(text, KEYS)
        if not file:
            raise ConfigurationError(f"there is no key to seal with: neither {KEYS_FILE} nor {KEYS} is set; {_MAKE}")
        try:
            found = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigurationError(f"{KEYS_FILE}={file} cannot be read: {reason}; {_MAKE}", file=file) from None
        return cls.parse(found, f"{KEYS_FILE}={file}")

    @property
    def primary(self) -> SealingKey:
        """The key that seals."""
        return next(iter(self._keys.values()))

    def key(self, id: str) -> SealingKey:
        """The key of that id. Raises SealKeyError naming it and those there are."""
        found = self._keys.get(id)
        if found is None:
            raise SealKeyError(
                f"this was sealed by key {id[:40]!r}, which {self.source} does not hold (it has {', '.join(self)}); "
                "put it back behind the first",
                key=id[:40],
            )
        return found

    def __iter__(self) -> Iterator[str]:
        """The ids, the one that seals first."""
        return iter(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self)})"


def new_key(id: str) -> str:
    """A line for a keyring with a new random key: ``id:base64``."""
    key = SealingKey(id, secrets.token_bytes(_BYTES))
    return f"{key.id}:{base64.b64encode(key.material).decode()}"


_MAKE = f"make a key with: loom secrets new-key > keys, keep it away from the data, and set {KEYS_FILE}=keys"
