"""Proofs that were opened before, by their hash, in an IdempotencyStore."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from loom.errors import IdempotencyConflictError, IdempotencyTakenError
from loom.ports import IdempotencyStore

from .opened import Opened

__all__ = ["Memo"]


class Memo:
    """Remembers what the module found, not what was decided: notary, age, name and policy are checked every time.

    Only what verified is kept. While another opens the same proof this one does so itself: nothing is waited for.
    Whoever can write the store can forge proofs, so it must be as trusted as the code.
    """

    def __init__(self, store: IdempotencyStore, module_digest: str, ttl: float) -> None:
        self._store = store
        self._digest = module_digest
        self._ttl = ttl

    async def opened(self, proof_hash: str, open_it: Callable[[], Awaitable[Opened]]) -> Opened:
        """From memory, or by ``open_it``."""
        key = f"tlsnotary/{self._digest[:32]}/{proof_hash}"
        try:
            record = await self._store.begin(key, fingerprint=self._digest, ttl=self._ttl)
        except (IdempotencyTakenError, IdempotencyConflictError):
            return await open_it()
        if record.completed and record.result is not None:
            return msgspec.msgpack.decode(record.result, type=Opened)
        try:
            opened = await open_it()
        except BaseException:
            await self._store.abandon(record)
            raise
        try:
            await self._store.complete(record, msgspec.msgpack.encode(opened))
        except IdempotencyTakenError:
            pass  # it took longer than the record lives: nothing is lost
        return opened
