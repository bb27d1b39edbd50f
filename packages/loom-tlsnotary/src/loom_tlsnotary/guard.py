"""The guard's rules about verifiers. They need no WebAssembly, and look at files and settings only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loom.errors import ConfigurationError
from loom.guard import ConfigRule, Finding, GuardConfig, GuardRule

from .options import ALLOW_MOCK, TRUSTED, TLSNotaryOptions, mock_is_allowed
from .places import installed_path
from .production import keys_of_tests
from .releases import RELEASES

__all__ = ["tlsnotary_rules"]


class MockRule(ConfigRule):
    """Whether somebody wants a mock in production."""

    code = "tlsnotary-mock"
    severity = "refuse"
    summary = "TLSNOTARY_ALLOW_MOCK is set; refused whatever any setting says"
    remedy = "unset TLSNOTARY_ALLOW_MOCK"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        try:
            reason = f"{ALLOW_MOCK} is set" if mock_is_allowed(config.environ) else ""
        except ConfigurationError as error:
            reason = str(error)
        if reason:
            yield self.finding("tlsnotary", "refuse", reason, absolute=True)


class TestNotaryRule(ConfigRule):
    """Whether a notary is trusted whose secret key is published."""

    __test__ = False  # pytest collects classes by this name

    code = "tlsnotary-test-notary"
    severity = "refuse"
    summary = "a test notary, whose secret key is published, is trusted; refused whatever any setting says"
    remedy = "take it out of the trusted notaries"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        options = _options_of(config)
        if options is not None and (found := keys_of_tests(options.notaries)):
            yield self.finding("tlsnotary", "refuse", f"{', '.join(map(str, found))} is trusted", absolute=True)


class NotariesRule(ConfigRule):
    """Whether anybody is trusted, and the module there."""

    code = "tlsnotary-not-ready"
    severity = "refuse"
    summary = "a verifier is configured and could not verify anything: no notary is trusted, or the module is missing"
    remedy = f"set {TRUSTED} to the keys of the notaries that you trust; run 'loom tlsnotary install' on each host"

    def inspect(self, config: GuardConfig) -> Iterator[Finding]:
        options = _options_of(config)
        if options is None:
            return
        if not options.notaries:
            yield self.finding("tlsnotary", "refuse", "no notary is trusted")
        place = options.module or installed_path(RELEASES[options.release])
        if not place.is_file():
            yield self.finding("tlsnotary", "refuse", f"tlsn-wasm {options.release} is not at {place}")


def _options_of(config: GuardConfig) -> TLSNotaryOptions | None:
    """What the configured verifier would do; None where there is none, or its URL says nothing sensible."""
    port = config.ports.get("tlsnotary")
    if port is None:
        return None
    found: Any = getattr(port.instance, "options", None)
    if isinstance(found, TLSNotaryOptions):
        return found
    if port.url is None or port.instance is not None or port.url.scheme != "tlsn":
        return None
    try:
        return TLSNotaryOptions.from_url(port.url, config.environ)
    except ConfigurationError:
        return None


def tlsnotary_rules() -> list[GuardRule]:
    """All rules, in the order in which they are told."""
    return [MockRule(), TestNotaryRule(), NotariesRule()]
