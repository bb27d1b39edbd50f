"""Whether this is production, for what may never be there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from loom.environment import detect_environment
from loom.errors import ProductionGuardError
from loom.ports import NotaryKey

from .options import ALLOW_MOCK, mock_is_allowed

__all__ = ["TEST_NOTARIES", "in_production", "keys_of_tests", "refuse_in_production", "refuse_mock"]

TEST_NOTARIES: frozenset[NotaryKey] = frozenset(
    NotaryKey.parse(text)
    for text in (
        "secp256k1:0329555f21b4a81661ee509e3ff88d00adf51a4dfeebdc6f013b611b851b898db5",
        "secp256r1:03a2769352b7386ee39fa9817e9089c3d9d5fbce30e9bd4bf4dfbf1689907f3a75",
    )
)
"""The keys of ``loom_tlsnotary.testing.TestNotary``, whose secrets are published: no proof of anything."""


def in_production(environ: Mapping[str, str] | None = None) -> str:
    """Why this is production, or an empty text. An app may know better from its own settings: see ``guard``."""
    environ = os.environ if environ is None else environ
    declared = environ.get("LOOM_ENV", "").strip().lower()
    environment, reason = detect_environment(declared or None, environ, ())
    return reason if environment == "production" else ""


def refuse_in_production(what: str, environ: Mapping[str, str] | None = None) -> None:
    """Raise ProductionGuardError where this is production. No variable lets ``what`` pass."""
    if reason := in_production(environ):
        raise ProductionGuardError(f"{what} is for tests, proves nothing, and is refused in production ({reason})")


def refuse_mock(environ: Mapping[str, str] | None = None) -> None:
    """Raise ProductionGuardError where TLSNOTARY_ALLOW_MOCK is set in production."""
    environ = os.environ if environ is None else environ
    if mock_is_allowed(environ) and (reason := in_production(environ)):
        raise ProductionGuardError(f"{ALLOW_MOCK} is set in production ({reason}); unset it")


def keys_of_tests(keys: Iterable[NotaryKey]) -> list[NotaryKey]:
    """Those of ``keys`` that belong to the test notary."""
    return [key for key in keys if key in TEST_NOTARIES]
