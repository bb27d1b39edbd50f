"""What every TLSNotaryVerifier must do. There is nothing to store: the suite wants presentations instead."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec
import pytest

from ...errors import (
    FieldNotAuthenticatedError,
    PresentationExpiredError,
    PresentationFormatError,
    ServerNameMismatchError,
    TLSNotaryError,
)
from ...ports.tlsnotary import TLSNotaryPolicy, TLSNotaryVerdict, TLSNotaryVerifier
from .base import Harness, Suite, scenario

__all__ = ["Sample", "TLSNotaryVerifierSuite"]

H = Harness[TLSNotaryVerifier]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A presentation that the verifier under test accepts, and what it says; ``field`` is a JSON pointer in it."""

    presentation: bytes
    server_name: str
    received: bytes
    field: str
    value: object


class TLSNotaryVerifierSuite(Suite[TLSNotaryVerifier]):
    """Override ``sample`` as well as ``harness``; the harness needs a ManualClock at which the sample is young."""

    other_name: ClassVar[str] = "other.invalid"

    def sample(self) -> Sample:
        """Override: a presentation that the verifier accepts at the time of the harness' clock."""
        pytest.fail(f"{type(self).__name__} must override sample() and return a Sample")

    @scenario()
    async def test_a_good_one_gives_a_verdict_with_what_was_said(self, h: H) -> None:
        sample = self.sample()
        policy = TLSNotaryPolicy(require_fields=(sample.field,))
        verdict = await h.adapter.verify(sample.presentation, sample.server_name.upper(), policy)
        assert verdict.verified
        assert verdict.server_name == sample.server_name
        assert verdict.received.data == sample.received
        assert verdict.fields == {sample.field: sample.value}
        assert verdict.time <= h.now()

    @scenario()
    async def test_a_verdict_can_be_recorded(self, h: H) -> None:
        sample = self.sample()
        verdict = await h.adapter.verify(sample.presentation, sample.server_name)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(verdict), type=TLSNotaryVerdict) == verdict

    @scenario()
    async def test_the_same_again_gives_the_same(self, h: H) -> None:
        sample = self.sample()
        first, *others = await asyncio.gather(
            *(h.adapter.verify(sample.presentation, sample.server_name) for _ in range(5))
        )
        assert all(other == first for other in others)

    @scenario()
    async def test_another_server_name_is_refused(self, h: H) -> None:
        with pytest.raises(ServerNameMismatchError):
            await h.adapter.verify(self.sample().presentation, self.other_name)

    @scenario()
    async def test_an_old_one_is_refused(self, h: H) -> None:
        sample = self.sample()
        await h.pass_time(100)
        with pytest.raises(PresentationExpiredError):
            await h.adapter.verify(sample.presentation, sample.server_name, TLSNotaryPolicy(max_age=99))

    @scenario()
    async def test_a_field_that_is_not_there_is_refused(self, h: H) -> None:
        sample = self.sample()
        with pytest.raises(FieldNotAuthenticatedError):
            await h.adapter.verify(sample.presentation, sample.server_name, TLSNotaryPolicy(require_fields=("/no~1",)))

    @scenario()
    async def test_what_is_no_presentation_is_refused_by_its_format(self, h: H) -> None:
        for data in (b"", b"\0", b"not a presentation", b"\xff" * 1000):
            with pytest.raises(PresentationFormatError):
                await h.adapter.verify(data, "example.com")

    @scenario()
    async def test_what_is_cut_off_is_refused(self, h: H) -> None:
        sample = self.sample()
        for end in range(0, len(sample.presentation), max(1, len(sample.presentation) // 16)):
            with pytest.raises(TLSNotaryError):
                await h.adapter.verify(sample.presentation[:end], sample.server_name)

    @scenario()
    async def test_a_cancelled_call_leaves_it_usable(self, h: H) -> None:
        sample = self.sample()
        call = asyncio.create_task(h.adapter.verify(sample.presentation, sample.server_name))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert (await h.adapter.verify(sample.presentation, sample.server_name)).verified
