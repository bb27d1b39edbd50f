"""The real module for the tests, from the npm package; test notaries; a clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from loom.testing.clock import ManualClock
from loom.testing.servers import npm_folder
from loom_tlsnotary import TLSNotaryOptions
from loom_tlsnotary.limits import Limits
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier

START = 1_760_000_000.0

Make = Callable[..., TestTLSNotaryVerifier]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test environment, wherever the tests run."""
    monkeypatch.setenv("LOOM_ENV", "test")
    for name in ("TLSNOTARY_ALLOW_MOCK", "TLSNOTARY_TRUSTED_NOTARIES", "TLSNOTARY_MAX_PRESENTATION_AGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def wasm_path() -> Path:
    """The module of the npm package; without it the test is skipped, saying what to install."""
    try:
        folder = npm_folder(Path(__file__).parent / "node", "tlsn-wasm")
    except RuntimeError as error:
        pytest.skip(str(error))
    return folder / "node_modules" / "tlsn-wasm" / "tlsn_wasm_bg.wasm"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(params=["k256", "p256"])
def notary(request: pytest.FixtureRequest) -> TestNotary:
    return TestNotary(request.param)


@pytest.fixture
async def make(wasm_path: Path, clock: ManualClock) -> AsyncIterator[Make]:
    """Makes verifiers that trust both test notaries; they are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        def build(**changed: object) -> TestTLSNotaryVerifier:
            limits = Limits(**changed.pop("limits", {}))  # type: ignore[arg-type]
            notaries = (TestNotary("k256").key, TestNotary("p256").key)
            cache = changed.pop("cache", None)
            given = {"notaries": notaries, "module": wasm_path, "limits": limits, **changed}
            verifier = TestTLSNotaryVerifier(TLSNotaryOptions(**given), clock=clock, cache=cache)  # type: ignore[arg-type]
            stack.push_async_callback(verifier.close)
            return verifier

        yield build


@pytest.fixture
async def verifier(make: Make) -> TestTLSNotaryVerifier:
    """Such a verifier, started."""
    found = make()
    await found.start()
    return found
