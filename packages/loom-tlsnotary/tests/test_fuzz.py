"""Whatever comes: an error of the tree or a verdict, never a crash, and never more than the whole session says."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.errors import FieldNotAuthenticatedError, TLSNotaryError
from loom.ports import AuthenticatedBytes, TLSNotaryPolicy
from loom_tlsnotary.fields import require_fields
from loom_tlsnotary.formats import describe
from loom_tlsnotary.http import parse_request, parse_response
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier

START = 1_760_000_000.0
FUZZ_SECONDS = float(os.environ.get("LOOM_TLSN_FUZZ_SECONDS", "60"))

names = st.sampled_from(["a", "b", "balance", 'q"', "ü", "}"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 99999) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(['"', "}", '","balance":7,"', "\\", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
headers = st.lists(
    st.sampled_from(
        [b"Host: a.test", b"X: y", b"Content-Encoding: identity", b"Cookie: \r\n\r\nHost: evil", b"Host: b.test"]
    ),
    max_size=4,
)


def with_holes(data: bytes, cuts: list[int]) -> AuthenticatedBytes:
    """``data`` with every other stretch between the cuts withheld."""
    edges = sorted({min(cut, len(data)) for cut in cuts})
    shown, holes = bytearray(data), []
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        shown[start:end] = bytes(end - start)
        holes.append((start, end))
    edges = [0, *(edge for hole in holes for edge in hole), len(data)]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return AuthenticatedBytes(bytes(shown), tuple((a, b) for a, b in pairs if a < b))


def pointers(value: Any, prefix: str = "") -> list[str]:
    found = [prefix]
    if isinstance(value, dict):
        for name, inner in value.items():
            found += pointers(inner, f"{prefix}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += pointers(inner, f"{prefix}/{index}")
    return found


cuts = st.lists(st.integers(0, 260), min_size=2, max_size=6)


@settings(deadline=None)
@given(values, headers, cuts, st.booleans(), st.integers(0, 3))
def test_a_field_is_what_the_whole_body_says(
    value: Any, lines: list[bytes], where: list[int], chunked: bool, indent: int
) -> None:
    body = json.dumps(value, ensure_ascii=False, indent=indent or None).encode()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    if chunked:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    data = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, framing, b"", body])
    response = parse_response(with_holes(data, where), "GET")
    for pointer in pointers(value):
        try:
            found = require_fields(response, TLSNotaryPolicy(require_fields=(pointer,)))
        except FieldNotAuthenticatedError:
            continue
        if b"\r\n\r\nHost: evil" not in data:  # there the body begins elsewhere
            expected = value
            for token in pointer.split("/")[1:]:
                expected = expected[int(token)] if isinstance(expected, list) else expected[token]
            assert found == {pointer: expected}


@settings(deadline=None)
@given(headers, cuts)
def test_a_certain_header_is_one_of_the_whole_message(lines: list[bytes], where: list[int]) -> None:
    data = b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b"Host: body\r\n\r\n"])
    whole, holed = parse_request(with_holes(data, [])), parse_request(with_holes(data, where))
    if holed is not None and whole is not None:
        certain = [header for header in holed.headers if header.certain]
        assert certain == list(whole.headers)[: len(certain)]


@settings(deadline=None)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest), cuts)
def test_any_bytes_can_be_read(data: bytes, where: list[int]) -> None:
    part = with_holes(data, where)
    parse_request(part)
    try:
        response = parse_response(part, "GET")
        require_fields(response, TLSNotaryPolicy(require_fields=("/a",), trust_framing=True))
    except TLSNotaryError:
        pass
    assert "presentation" in describe(data, "x", "")


def mutant(chance: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(data):
                data[at] = chance.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF))
            case 2:
                del data[at : at + chance.choice((1, 2, 8, 32))]
            case 3:
                data[at:at] = data[chance.randrange(len(data) + 1) :][: chance.choice((1, 8, 64))]
            case 4:
                data[at : at + 8] = struct.pack("<Q", chance.choice((0, 1, 2**16, 2**24, 2**31, 2**32 - 1, 2**63)))
            case 5:
                data[at : at + 4] = struct.pack("<I", chance.choice((0, 1, 5, 2**16, 2**31, 2**32 - 1)))
            case _:
                other = chance.choice(seeds)
                data[at:] = other[min(at, len(other)) :]
    return bytes(data)


@pytest.mark.slow
async def test_a_minute_of_mutants_crashes_nothing(verifier: TestTLSNotaryVerifier) -> None:
    """LOOM_TLSN_FUZZ_SECONDS makes it longer. The seed of a failure is in its message."""
    body = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'
    seeds = [TestNotary(curve).present(body, hide_response=hide, at=START) for curve in ("k256", "p256")
             for hide in ([], [b"42"])]  # fmt: skip
    given_file = os.environ.get("LOOM_TLSN_PRESENTATION", "")
    if given_file:
        seeds.append(Path(given_file).read_bytes())  # noqa: ASYNC240
    until, number, accepted = time.monotonic() + FUZZ_SECONDS, 0, 0
    while time.monotonic() < until:
        number += 1
        data = mutant(random.Random(number), seeds)
        try:
            verdict = await verifier.verify(data, "example.test")
        except TLSNotaryError:
            continue
        except BaseException as error:
            raise AssertionError(f"mutant {number}") from error
        accepted += 1
        assert verdict.received.data.replace(b"\0\0", b"42") == body, number
    assert number > 100
    assert accepted < number
    assert (await verifier.verify(seeds[0], "example.test")).verified


def resident() -> int:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for the memory in use")
async def test_memory_stays_flat_over_ten_thousand_proofs(verifier: TestTLSNotaryVerifier) -> None:
    proof = TestNotary().present(b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}', at=START)

    async def run(count: int) -> None:
        for n in range(count):
            data = proof if n % 4 else proof[: -1 - n % 50]
            try:
                await verifier.verify(data, "example.test")
            except TLSNotaryError:
                assert n % 4 == 0

    await run(1000)
    before = resident()
    await run(9000)
    assert resident() - before < 10
