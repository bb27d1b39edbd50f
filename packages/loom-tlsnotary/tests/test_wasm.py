"""The module: what it verifies, what it must not take from anybody, and that nothing outlives a proof."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from loom.errors import (
    ConfigurationError,
    FieldNotAuthenticatedError,
    HostMismatchError,
    IdentityMissingError,
    NotaryNotTrustedError,
    PresentationFormatError,
    PresentationFromFutureError,
    PresentationInvalidError,
    ServerNameMismatchError,
    StoreUnavailableError,
    TLSNotaryError,
    TranscriptMissingError,
    VerificationLimitError,
)
from loom.ports import NotaryKey, TLSNotaryPolicy
from loom.testing.clock import ManualClock
from loom_tlsnotary import TLSNotaryOptions, WasmTLSNotaryVerifier
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier

Make = Callable[..., TestTLSNotaryVerifier]

START = 1_760_000_000.0
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
BODY = b'{"balance":42,"secret":"x"}'
RESPONSE = HEAD % len(BODY) + BODY

GENUINE_NOTARY = NotaryKey.parse("secp256k1:030da85d8da9b3436500e52d60f2c15c7605ed9f05953d02294a5ba0b5b9281a9a")


def genuine(name: str = "") -> bytes:
    given = os.environ.get("LOOM_TLSN_PRESENTATION", "")
    if not given:
        pytest.skip("LOOM_TLSN_PRESENTATION names no genuine presentation of raw.githubusercontent.com")
    path = Path(given).with_name(name) if name else Path(given)
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path.read_bytes()


async def test_a_genuine_presentation_is_verified_by_the_unchanged_module(wasm_path: Path) -> None:
    options = TLSNotaryOptions(notaries=(GENUINE_NOTARY,), module=wasm_path, max_age=1e9)
    async with WasmTLSNotaryVerifier(options) as verifier:
        verdict = await verifier.verify(genuine(), "raw.githubusercontent.com")
        assert (verdict.mode, verdict.time, verdict.notary_key) == ("wasm", 1748415894.0, GENUINE_NOTARY)
        assert verdict.request.method == "GET"
        assert verdict.response is not None
        assert verdict.response.status == 200
        assert b'"id": 1234567890' in verdict.received.data
        assert verdict.redacted_ranges["sent"] == ((189, 208),)
        with pytest.raises(ServerNameMismatchError):
            await verifier.verify(genuine(), "api.github.com")
        with pytest.raises(FieldNotAuthenticatedError):
            await verifier.verify(genuine(), "raw.githubusercontent.com", TLSNotaryPolicy(require_fields=("/id",)))


async def test_a_genuine_presentation_of_alpha_10_is_refused_by_its_name(wasm_path: Path) -> None:
    async with WasmTLSNotaryVerifier(TLSNotaryOptions(notaries=(GENUINE_NOTARY,), module=wasm_path)) as verifier:
        with pytest.raises(PresentationFormatError, match=r"0\.1\.0-alpha\.10"):
            await verifier.verify(genuine("genuine-alpha10.bin"), "raw.githubusercontent.com")


async def test_the_unchanged_module_takes_nothing_of_the_test_notary(wasm_path: Path, notary: TestNotary) -> None:
    options = TLSNotaryOptions(notaries=(notary.key,), module=wasm_path)
    async with WasmTLSNotaryVerifier(options, clock=ManualClock(START)) as verifier:
        with pytest.raises(PresentationInvalidError, match="certificate"):
            await verifier.verify(notary.present(RESPONSE, at=START), "example.test")


async def test_a_presentation_of_each_curve_is_verified(verifier: TestTLSNotaryVerifier, notary: TestNotary) -> None:
    presentation = notary.present(RESPONSE, hide_response=[b'"x"'], at=START)
    verdict = await verifier.verify(presentation, "example.test", TLSNotaryPolicy(require_fields=("/balance",)))
    assert verdict.fields == {"/balance": 42}
    assert verdict.notary_key == notary.key
    assert verdict.redacted_ranges["received"] == ((len(RESPONSE) - 4, len(RESPONSE) - 1),)
    assert verdict.received.data == RESPONSE.replace(b'"x"', b"\0\0\0")
    assert verdict.request.header("host") == "example.test"


async def test_every_name_of_the_certificate_can_be_claimed_and_only_the_asked_one_passes(
    verifier: TestTLSNotaryVerifier, notary: TestNotary
) -> None:
    """The name is not part of what was signed: the module takes any that the certificate covers."""
    names = ("a.test", "*.b.test")
    for claimed in ("a.test", "x.b.test", "A.Test"):
        presentation = notary.present(RESPONSE, server_name=claimed, certificate_names=names, at=START)
        assert (await verifier.verify(presentation, claimed)).server_name == claimed.lower()
        for asked in ("b.test", "y.b.test", "example.test"):
            with pytest.raises(ServerNameMismatchError):
                await verifier.verify(presentation, asked)
    request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
    other = notary.present(RESPONSE, server_name="x.b.test", request=request, certificate_names=names, at=START)
    with pytest.raises(HostMismatchError):
        await verifier.verify(other, "x.b.test")
    uncovered = notary.present(RESPONSE, server_name="c.test", certificate_names=names, at=START)
    with pytest.raises(PresentationInvalidError):
        await verifier.verify(uncovered, "c.test")


async def test_what_a_prover_may_leave_out_is_missed(verifier: TestTLSNotaryVerifier, notary: TestNotary) -> None:
    with pytest.raises(IdentityMissingError):
        await verifier.verify(notary.present(RESPONSE, identity=False, at=START), "example.test")
    with pytest.raises(TranscriptMissingError):
        await verifier.verify(notary.present(RESPONSE, transcript=False, at=START), "example.test")
    with pytest.raises(PresentationFromFutureError):
        await verifier.verify(notary.present(RESPONSE, at=START + 61), "example.test")
    with pytest.raises(HostMismatchError):
        await verifier.verify(notary.present(RESPONSE, hide_request=[b"host"], at=START), "example.test")


async def test_another_notary_is_refused(make: Make, notary: TestNotary) -> None:
    stranger = TestNotary("k256" if notary.key.algorithm == "secp256r1" else "p256")
    async with make(notaries=(stranger.key,)) as verifier:
        with pytest.raises(NotaryNotTrustedError):
            await verifier.verify(notary.present(RESPONSE, at=START), "example.test")


async def test_a_key_in_place_of_the_signer_s_is_refused(verifier: TestTLSNotaryVerifier) -> None:
    signer, other = TestNotary(), TestNotary(name="other")
    presentation = signer.present(RESPONSE, at=START)
    assert presentation.count(signer.key.data) == 1
    with pytest.raises(PresentationInvalidError):
        await verifier.verify(presentation.replace(signer.key.data, other.key.data), "example.test")


async def test_every_truncation_is_refused(verifier: TestTLSNotaryVerifier) -> None:
    presentation = TestNotary().present(RESPONSE, at=START)
    for end in range(0, len(presentation), 61):
        with pytest.raises(TLSNotaryError):
            await verifier.verify(presentation[:end], "example.test")
    with pytest.raises(TLSNotaryError):
        await verifier.verify(presentation + b"\0", "example.test")


def resident() -> int:
    """Bytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def eight_byte_numbers(data: bytes, smallest: int) -> list[int]:
    """Every place of a number of eight bytes that may be a length."""
    found = [struct.unpack_from("<Q", data, at)[0] for at in range(len(data) - 7)]
    return [at for at, value in enumerate(found) if smallest <= value < 2**16]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory in use")
async def test_hostile_lengths_take_no_memory(verifier: TestTLSNotaryVerifier) -> None:
    presentation = TestNotary().present(RESPONSE, at=START)
    with pytest.raises(TLSNotaryError):
        await verifier.verify(presentation[:-1], "example.test")
    before = resident()
    places = eight_byte_numbers(presentation, 2)
    assert len(places) > 10
    for at in places[::2]:
        for length in (2**24, 2**32 - 1, 2**62):
            with pytest.raises(TLSNotaryError):
                await verifier.verify(
                    presentation[:at] + struct.pack("<Q", length) + presentation[at + 8 :], "example.test"
                )
    assert resident() - before < 2 * 64 * 2**20


async def test_a_transcript_that_claims_to_be_huge_meets_a_limit(make: Make) -> None:
    """Signed by the notary, so that the module itself has no objection."""
    request = b"GET / HTTP/1.1\r\nhost: example.test\r\n\r\n"
    notary, huge = TestNotary(), RESPONSE + bytes(20_000)
    presentation = notary.present(huge, request=request, hide_response=[bytes(20_000)], at=START)
    async with make(limits={"transcript": 10_000}) as verifier:
        with pytest.raises(VerificationLimitError, match="transcript"):
            await verifier.verify(presentation, "example.test")
        assert (await verifier.verify(notary.present(RESPONSE, at=START), "example.test")).verified
    async with make(limits={"memory": 16 * 2**20, "presentation": 2**26}) as verifier:
        with pytest.raises(VerificationLimitError, match="memory"):
            await verifier.verify(bytes(10 * 2**20) + bytes(2**20), "example.test")


async def test_ten_megabytes_are_refused_unread(verifier: TestTLSNotaryVerifier) -> None:
    with pytest.raises(VerificationLimitError, match="10485760"):
        await verifier.verify(bytes(10 * 2**20), "example.test")


async def test_work_and_time_are_bounded(make: Make) -> None:
    presentation = TestNotary().present(HEAD % 50_000 + b"x" * 50_000, at=START)
    async with make(limits={"fuel": 1_000_000}) as verifier:
        with pytest.raises(VerificationLimitError, match="units of work"):
            await verifier.verify(presentation, "example.test")
    async with make(limits={"seconds": 0.05}) as verifier:
        with pytest.raises(VerificationLimitError, match=r"0\.05 s"):
            await verifier.verify(presentation, "example.test")


async def test_many_at_once_each_get_their_own_verdict(verifier: TestTLSNotaryVerifier) -> None:
    notaries = TestNotary("k256"), TestNotary("p256")
    bodies = [b'{"n":%d}' % n for n in range(64)]
    proofs = [notaries[n % 2].present(HEAD % len(body) + body, at=START) for n, body in enumerate(bodies)]
    policy = TLSNotaryPolicy(require_fields=("/n",))
    mixed = [proof if n % 3 else proof[:-1] for n, proof in enumerate(proofs)]
    verdicts = await asyncio.gather(
        *(verifier.verify(proof, "example.test", policy) for proof in mixed), return_exceptions=True
    )
    for n, verdict in enumerate(verdicts):
        if n % 3:
            assert not isinstance(verdict, BaseException)
            assert verdict.fields == {"/n": n}
        else:
            assert isinstance(verdict, PresentationFormatError)


async def test_the_loop_goes_on_while_proofs_are_verified(verifier: TestTLSNotaryVerifier) -> None:
    proof = TestNotary().present(HEAD % 20_000 + b"x" * 20_000, at=START)
    work = asyncio.create_task(verifier.verify(proof, "example.test"))
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await work).verified
    assert turns > 10


async def test_cancelling_in_the_middle_leaves_it_usable(verifier: TestTLSNotaryVerifier) -> None:
    proof = TestNotary().present(RESPONSE, at=START)
    tasks = [asyncio.create_task(verifier.verify(proof, "example.test")) for _ in range(20)]
    await tasks[0]
    for task in tasks[1:]:
        task.cancel()
    ended = await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert any(isinstance(one, asyncio.CancelledError) for one in ended)
    assert (await verifier.verify(proof, "example.test")).verified


async def test_closing_waits_for_what_is_under_way(make: Make) -> None:
    verifier = make()
    await verifier.start()
    await verifier.start()
    proof = TestNotary().present(RESPONSE, at=START)
    tasks = [asyncio.create_task(verifier.verify(proof, "example.test")) for _ in range(5)]
    await asyncio.sleep(0)
    await verifier.close()
    await verifier.close()
    assert all(verdict.verified for verdict in await asyncio.gather(*tasks))
    with pytest.raises(StoreUnavailableError, match="not started"):
        await verifier.verify(proof, "example.test")
    await verifier.start()
    assert (await verifier.verify(proof, "example.test")).verified


async def test_health_is_that_of_a_proof_just_made(make: Make) -> None:
    verifier = make()
    assert not (await verifier.health_check()).healthy
    await verifier.start()
    health = await verifier.health_check()
    assert health.healthy
    assert health.release == "0.1.0-alpha.12"
    assert len(health.production_problems) == 2
    assert (await verifier.facts())["module"] == "tlsn-wasm 0.1.0-alpha.12"


async def test_a_missing_or_foreign_module_is_named(wasm_path: Path, tmp_path: Path) -> None:
    options = TLSNotaryOptions(notaries=(GENUINE_NOTARY,), module=tmp_path / "module.wasm")
    with pytest.raises(ConfigurationError, match="loom tlsnotary install"):
        await WasmTLSNotaryVerifier(options).start()
    (tmp_path / "module.wasm").write_bytes(wasm_path.read_bytes() + b"\0")  # noqa: ASYNC240
    with pytest.raises(ConfigurationError, match="SHA-256"):
        await WasmTLSNotaryVerifier(options).start()
    with pytest.raises(ConfigurationError, match="no notary is trusted"):
        await WasmTLSNotaryVerifier(TLSNotaryOptions(module=wasm_path)).start()
