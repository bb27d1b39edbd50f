"""URLs and variables: what they say is what is done, and what they cannot say is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from loom.errors import ConfigurationError
from loom.plugins import LoomURL
from loom.ports import NotaryKey
from loom_tlsnotary import TLSNotaryOptions

KEY = "03" + "ab" * 32


def options(url: str, **environ: str) -> TLSNotaryOptions:
    return TLSNotaryOptions.from_url(LoomURL.parse(url), environ)


def test_a_url_says_it_all() -> None:
    found = options(
        f"tlsn:///srv/m.wasm?notaries={KEY},p256:{KEY}&max_age=60&max_skew=5&workers=3&max_memory=33554432"
        "&max_seconds=2.5&max_bytes=1000&max_transcript=2000&cache_ttl=9"
    )
    assert found.notaries == (NotaryKey("secp256k1", bytes.fromhex(KEY)), NotaryKey("secp256r1", bytes.fromhex(KEY)))
    assert (found.module, found.max_age, found.max_skew, found.workers, found.cache_ttl) == (
        Path("/srv/m.wasm"), 60.0, 5.0, 3, 9.0,
    )  # fmt: skip
    limits = found.limits
    assert (limits.memory, limits.seconds, limits.presentation, limits.transcript) == (2**25, 2.5, 1000, 2000)


def test_variables_say_what_the_url_leaves_open() -> None:
    variables = {"TLSNOTARY_TRUSTED_NOTARIES": f" {KEY} , {KEY},", "TLSNOTARY_MAX_PRESENTATION_AGE": "120"}
    found = options("tlsn://", **variables)
    assert (found.notaries, found.max_age, found.module) == ((NotaryKey("secp256k1", bytes.fromhex(KEY)),), 120.0, None)
    assert options("tlsn://?max_age=7", **variables).max_age == 7


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("tlsn://host/x", "write tlsn://"),
        ("tlsn://?max_ag=1", "did you mean 'max_age'?"),
        ("tlsn://?max_age=0", "above zero"),
        ("tlsn://?max_age=nan", "above zero"),
        ("tlsn://?workers=x", "a whole number above zero"),
        ("tlsn://?max_memory=1000", "memory"),
        ("tlsn://?notaries=zz", "no notary key"),
        (f"tlsn://?notaries=04{'ab' * 32}", "no notary key"),
        (f"tlsn://?notaries=ed25519:{KEY}", "no notary key"),
        ("tlsn://?release=0.1.0-alpha.10", "0.1.0-alpha.12"),
    ],
)
def test_what_does_not_fit_is_named(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace("?", r"\?")):
        options(url)


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigurationError, match="TLSNOTARY_MAX_PRESENTATION_AGE"):
        options("tlsn://", TLSNOTARY_MAX_PRESENTATION_AGE="-1")
    with pytest.raises(ConfigurationError, match="TLSNOTARY_TRUSTED_NOTARIES"):
        options("tlsn://", TLSNOTARY_TRUSTED_NOTARIES="all")


def test_a_key_is_written_as_it_is_read() -> None:
    key = NotaryKey.parse(f"p256:{KEY}")
    assert str(key) == f"secp256r1:{KEY}"
    assert NotaryKey.parse(str(key)) == key
