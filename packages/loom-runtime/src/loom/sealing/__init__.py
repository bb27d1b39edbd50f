"""Sealing: AES-GCM under the keys of a keyring that is never stored beside the data."""

from .keyring import KEYS, KEYS_FILE, Keyring, SealingKey, new_key
from .seal import Sealed, Sealer

__all__ = ["KEYS", "KEYS_FILE", "Keyring", "Sealed", "Sealer", "SealingKey", "new_key"]
