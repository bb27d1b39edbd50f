"""The suite of verifiers catches what is broken on purpose, by the test that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loom.errors import FieldNotAuthenticatedError, TLSNotaryError
from loom.ports import TLSNotaryPolicy, TLSNotaryVerdict, TLSNotaryVerifier
from loom.testing.clock import ManualClock
from loom.testing.suites.base import Harness
from loom.testing.suites.tlsnotary import Sample, TLSNotaryVerifierSuite
from loom_tlsnotary import MockTLSNotaryVerifier
from loom_tlsnotary.mock import _MAGIC
from loom_tlsnotary.opened import Opened

START = 1_760_000_000.0
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'


class IgnoresTheName(MockTLSNotaryVerifier):
    """Verifies whatever name the prover has chosen."""

    async def verify(self, presentation: bytes, server_name: str, policy: Any = None) -> TLSNotaryVerdict:
        if presentation.startswith(_MAGIC):
            try:
                chosen = msgspec.json.decode(presentation[len(_MAGIC) :], type=Opened).server_name
                server_name = chosen or server_name
            except msgspec.DecodeError:
                pass
        return await super().verify(presentation, server_name, policy)


class IgnoresThePolicy(MockTLSNotaryVerifier):
    """Takes presentations of any age that the policy would not."""

    async def verify(self, presentation: bytes, server_name: str, policy: Any = None) -> TLSNotaryVerdict:
        fields = () if policy is None else policy.require_fields
        return await super().verify(presentation, server_name, TLSNotaryPolicy(require_fields=fields))


class IgnoresMissingFields(MockTLSNotaryVerifier):
    """Gives a verdict without the fields that were asked for."""

    async def verify(self, presentation: bytes, server_name: str, policy: Any = None) -> TLSNotaryVerdict:
        try:
            return await super().verify(presentation, server_name, policy)
        except FieldNotAuthenticatedError:
            return await super().verify(presentation, server_name, TLSNotaryPolicy(max_age=policy.max_age))


class HidesWhatIsWrong(MockTLSNotaryVerifier):
    """Has one error for everything."""

    async def verify(self, presentation: bytes, server_name: str, policy: Any = None) -> TLSNotaryVerdict:
        try:
            return await super().verify(presentation, server_name, policy)
        except TLSNotaryError as error:
            raise TLSNotaryError(str(error)) from None


class Unrecordable(MockTLSNotaryVerifier):
    """Puts into a verdict what no journal takes."""

    async def verify(self, presentation: bytes, server_name: str, policy: Any = None) -> TLSNotaryVerdict:
        verdict = await super().verify(presentation, server_name, policy)
        return msgspec.structs.replace(verdict, fields={**verdict.fields, "": object()})


CAUGHT_BY: list[tuple[type[MockTLSNotaryVerifier], str]] = [
    (IgnoresTheName, "another_server_name_is_refused"),
    (IgnoresThePolicy, "an_old_one_is_refused"),
    (IgnoresMissingFields, "a_field_that_is_not_there_is_refused"),
    (HidesWhatIsWrong, "what_is_no_presentation_is_refused_by_its_format"),
    (Unrecordable, "a_verdict_can_be_recorded"),
]


def run(adapter: type[MockTLSNotaryVerifier], test: str, folder: Path) -> None:
    class UnderTest(TLSNotaryVerifierSuite):
        def harness(self, tmp_path: Path) -> Harness[TLSNotaryVerifier]:
            clock = ManualClock(START)
            return Harness(lambda: adapter(allow_mock=True, clock=clock), clock=clock)

        def sample(self) -> Sample:
            return Sample(
                presentation=adapter.present(RESPONSE, at=START), server_name="example.test", received=RESPONSE,
                field="/balance", value=42,
            )  # fmt: skip

    getattr(UnderTest(), f"test_{test}")(folder)


@pytest.mark.parametrize(("mutant", "test"), CAUGHT_BY)
def test_the_mutant_is_caught(mutant: type[MockTLSNotaryVerifier], test: str, tmp_path: Path) -> None:
    with pytest.raises((TLSNotaryError, TypeError, AssertionError, pytest.fail.Exception)):
        run(mutant, test, tmp_path)


@pytest.mark.parametrize("test", [test for _, test in CAUGHT_BY])
def test_the_original_passes(test: str, tmp_path: Path) -> None:
    run(MockTLSNotaryVerifier, test, tmp_path)
