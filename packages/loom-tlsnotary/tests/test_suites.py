"""The conformance suite of verifiers, over the real module and over the mock."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.ports import TLSNotaryVerifier
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.tlsnotary import Sample, TLSNotaryVerifierSuite
from loom_tlsnotary import MockTLSNotaryVerifier, TLSNotaryOptions
from loom_tlsnotary.plugin import MOCK, TEST
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier

START = 1_760_000_000.0
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'


def sample(presentation: bytes) -> Sample:
    return Sample(presentation=presentation, server_name="example.test", received=RESPONSE, field="/balance", value=42)


class TestRealModule(TLSNotaryVerifierSuite):
    spec = TEST

    @pytest.fixture(autouse=True)
    def _module(self, wasm_path: Path) -> None:
        self.path = wasm_path

    def harness(self, tmp_path: Path) -> Harness[TLSNotaryVerifier]:
        clock = ManualClock(START)
        options = TLSNotaryOptions(notaries=(TestNotary().key,), module=self.path)
        return Harness(lambda: TestTLSNotaryVerifier(options, clock=clock), clock=clock)

    def sample(self) -> Sample:
        return sample(TestNotary().present(RESPONSE, at=START))


class TestMock(TLSNotaryVerifierSuite):
    spec = MOCK

    def harness(self, tmp_path: Path) -> Harness[TLSNotaryVerifier]:
        clock = ManualClock(START)
        return Harness(lambda: MockTLSNotaryVerifier(allow_mock=True, clock=clock), clock=clock)

    def sample(self) -> Sample:
        return sample(MockTLSNotaryVerifier.present(RESPONSE, at=START))
