"""Rendezvous hashing: who should own what, agreed on by everybody who knows the same members."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

__all__ = ["preferred_owner"]


def preferred_owner(shard: int, members: Sequence[str]) -> str:
    """Of all members the one whose hash with the shard is highest. A join moves only its share."""
    return max(members, key=lambda member: blake2b(f"{shard}\x00{member}".encode(), digest_size=8).digest())
