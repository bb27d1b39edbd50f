"""Every bit of a presentation counts: the module and an independent verifier agree on each that is turned."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from loom.errors import TLSNotaryError
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier
from loom_tlsnotary.testing.server import _ISSUER, secret

from .oracle import accepts

START = 1_760_000_000.0
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'


@pytest.fixture(scope="module")
def root() -> x509.Certificate:
    """The test authority, as a certificate."""
    key = ec.derive_private_key(secret("authority"), ec.SECP256R1())
    return (
        x509.CertificateBuilder().subject_name(_ISSUER).issuer_name(_ISSUER).public_key(key.public_key())
        .serial_number(1).not_valid_before(dt.datetime(2020, 1, 1)).not_valid_after(dt.datetime(2040, 1, 1))  # noqa: DTZ001
        .sign(key, hashes.SHA256())
    )  # fmt: skip


async def agree(verifier: TestTLSNotaryVerifier, root: x509.Certificate, proof: bytes, bits: list[int]) -> int:
    """How many of the mutations the oracle accepts; fails where the module says otherwise."""
    accepted = 0
    differing = []
    pool = verifier._pool
    assert pool is not None
    for bit in bits:
        mutant = bytearray(proof)
        mutant[bit // 8] ^= 1 << bit % 8
        try:
            await pool.open(bytes(mutant))
            module = True
        except TLSNotaryError:
            module = False
        oracle = accepts(bytes(mutant), root)
        accepted += oracle
        if module != oracle:
            differing.append((bit, module, oracle))
    assert differing == []
    return accepted


def present(notary: TestNotary) -> bytes:
    return notary.present(RESPONSE, hide_response=[b"42"], hide_request=[b"close"], at=START)


async def test_a_sample_of_turned_bits(
    verifier: TestTLSNotaryVerifier, notary: TestNotary, root: x509.Certificate
) -> None:
    proof = present(notary)
    assert accepts(proof, root)
    bits = random.Random(7).sample(range(len(proof) * 8), 60)
    assert await agree(verifier, root, proof, bits) <= 2


@pytest.mark.slow
async def test_all_turned_bits(verifier: TestTLSNotaryVerifier, root: x509.Certificate) -> None:
    """What both accept is what nobody signed: the case of the server's name, which ``checks`` settles, and a byte.

    That byte repeats which hash the tree is made by, and neither reads it.
    """
    proof = present(TestNotary())
    accepted = await agree(verifier, root, proof, list(range(len(proof) * 8)))
    assert 8 <= accepted < 30
