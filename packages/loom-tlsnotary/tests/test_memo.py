"""Proofs remembered in an IdempotencyStore: opened once, judged every time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from loom.adapters.memory.idempotency import InMemoryIdempotencyStore
from loom.errors import PresentationExpiredError, PresentationInvalidError, ServerNameMismatchError
from loom.testing.clock import ManualClock
from loom_tlsnotary.memo import Memo
from loom_tlsnotary.opened import Opened
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier

from .test_checks import KEY

Make = Callable[..., TestTLSNotaryVerifier]

START = 1_760_000_000.0
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'


class Opener:
    """Counts how often a proof is opened."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.calls = 0
        self.failure = failure

    async def __call__(self) -> Opened:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return Opened(notary_key=KEY, time=1)


@pytest.fixture
async def store(clock: ManualClock) -> Any:
    async with InMemoryIdempotencyStore(clock=clock) as opened:
        yield opened


async def test_a_proof_is_opened_once(store: InMemoryIdempotencyStore, clock: ManualClock) -> None:
    opener = Opener()
    memo = Memo(store, "d" * 64, 100)
    first = await memo.opened("hash", opener)
    assert await memo.opened("hash", opener) == first
    assert opener.calls == 1
    await memo.opened("another", opener)
    await Memo(store, "e" * 64, 100).opened("hash", opener)
    assert opener.calls == 3
    clock.advance(101)
    await memo.opened("hash", opener)
    assert opener.calls == 4


async def test_what_failed_is_tried_again(store: InMemoryIdempotencyStore) -> None:
    memo = Memo(store, "d" * 64, 100)
    for _ in range(2):
        with pytest.raises(PresentationInvalidError):
            await memo.opened("hash", Opener(PresentationInvalidError("wrong")))
    opener = Opener()
    await memo.opened("hash", opener)
    assert opener.calls == 1


async def test_nobody_waits_for_another(store: InMemoryIdempotencyStore) -> None:
    memo, opener = Memo(store, "d" * 64, 100), Opener()
    found = await asyncio.gather(*(memo.opened("hash", opener) for _ in range(3)))
    assert found[0] == found[1] == found[2]
    await memo.opened("hash", opener)
    assert opener.calls == 3


async def test_what_is_remembered_is_judged_anew(
    make: Make, store: InMemoryIdempotencyStore, clock: ManualClock
) -> None:
    async with make(cache=store, max_age=50.0) as verifier:
        proof = TestNotary().present(RESPONSE, at=START)
        first = await verifier.verify(proof, "example.test")
        assert await verifier.verify(proof, "example.test") == first
        with pytest.raises(ServerNameMismatchError):
            await verifier.verify(proof, "other.test")
        clock.advance(51)
        with pytest.raises(PresentationExpiredError):
            await verifier.verify(proof, "example.test")
