"""What is for tests never reaches production, and what is not ready is told before it starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loom import Loom
from loom.errors import (
    ConfigurationError,
    NotaryNotTrustedError,
    PresentationExpiredError,
    ProductionGuardError,
)
from loom.guard import Finding, guard_config, readiness, validate_production_config
from loom.plugins import AdapterContext, AdapterRegistry
from loom.settings import load_settings
from loom_tlsnotary import MockTLSNotaryVerifier, TLSNotaryOptions, WasmTLSNotaryVerifier
from loom_tlsnotary.guard import tlsnotary_rules
from loom_tlsnotary.plugin import MOCK, TEST, WASM
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier

KEY = "03" + "ab" * 32
START = 1_760_000_000.0
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'

PRODUCTIONS: list[dict[str, str]] = [
    {"LOOM_ENV": "production"},
    {"LOOM_ENV": " Production "},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    {"LOOM_ENV": "production", "TLSNOTARY_ALLOW_MOCK": "true", "LOOM_GUARD": "warn"},
]


def findings(environ: Mapping[str, str], **instances: Any) -> list[Finding]:
    settings = load_settings(environ=environ)
    config = guard_config(settings, AdapterRegistry(), instances=instances, environ=environ)  # type: ignore[arg-type]
    return [finding for finding in validate_production_config(config, tlsnotary_rules()) if finding.port == "tlsnotary"]


@pytest.mark.parametrize("environ", PRODUCTIONS, ids=str)
def test_nothing_for_tests_is_made_in_production(environ: dict[str, str]) -> None:
    with pytest.raises(ProductionGuardError):
        MockTLSNotaryVerifier(allow_mock=True, environ=environ)
    with pytest.raises(ProductionGuardError):
        TestNotary(environ=environ)
    with pytest.raises(ProductionGuardError):
        TestTLSNotaryVerifier(environ=environ)


@pytest.mark.parametrize("scheme", ["tlsn+mock", "tlsn+test"])
def test_no_url_brings_a_double_into_production(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_ENV", "production")
    monkeypatch.setenv("TLSNOTARY_ALLOW_MOCK", "true")
    with pytest.raises(ProductionGuardError):
        AdapterRegistry().open("tlsnotary", f"{scheme}://", AdapterContext())


async def test_an_app_that_is_configured_with_a_double_does_not_start(tmp_path: Path) -> None:
    """The environment is an argument here, which no constructor of a verifier sees: the guard does."""
    app = Loom(url=f"sqlite:///{tmp_path}/loom.db", urls={"tlsnotary": "tlsn+mock://"}, env="production")
    with pytest.raises(ProductionGuardError, match="test-only"):
        async with app:
            pass


async def test_allow_mock_in_production_refuses_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLSNOTARY_ALLOW_MOCK", "true")
    monkeypatch.setenv("LOOM_GUARD", "warn")
    app = Loom(url=f"sqlite:///{tmp_path}/loom.db", env="production")
    with pytest.raises(ProductionGuardError, match="TLSNOTARY_ALLOW_MOCK"):
        async with app:
            pass
    monkeypatch.setenv("LOOM_ENV", "production")
    with pytest.raises(ProductionGuardError, match="TLSNOTARY_ALLOW_MOCK"):
        await WasmTLSNotaryVerifier(TLSNotaryOptions()).start()


async def test_the_real_verifier_trusts_no_test_notary_in_production(wasm_path: Path) -> None:
    options = TLSNotaryOptions(notaries=(TestNotary("p256").key,), module=wasm_path)
    with pytest.raises(ProductionGuardError, match="test notary"):
        await WasmTLSNotaryVerifier(options, environ={"LOOM_ENV": "production"}).start()


def test_a_mock_wants_to_be_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="allow_mock"):
        MockTLSNotaryVerifier(environ={})
    with pytest.raises(ConfigurationError, match="true or false"):
        MockTLSNotaryVerifier(environ={"TLSNOTARY_ALLOW_MOCK": "perhaps"})
    with pytest.raises(ConfigurationError):
        MockTLSNotaryVerifier(allow_mock=False, environ={"TLSNOTARY_ALLOW_MOCK": "true"})
    assert MockTLSNotaryVerifier(environ={"TLSNOTARY_ALLOW_MOCK": "true"}).options.notaries == ()


async def test_the_variables_are_enforced_by_the_mock_as_well() -> None:
    variables = {
        "TLSNOTARY_ALLOW_MOCK": "1", "TLSNOTARY_TRUSTED_NOTARIES": KEY, "TLSNOTARY_MAX_PRESENTATION_AGE": "60",
    }  # fmt: skip
    mock = MockTLSNotaryVerifier(environ=variables)
    with pytest.raises(NotaryNotTrustedError):
        await mock.verify(mock.present(RESPONSE), "example.test")
    key = TLSNotaryOptions.from_environ(variables).notaries[0]
    verdict = await mock.verify(mock.present(RESPONSE, notary_key=key), "example.test")
    assert (verdict.mode, verdict.verified) == ("mock", True)
    with pytest.raises(PresentationExpiredError):
        await mock.verify(mock.present(RESPONSE, notary_key=key, at=START), "example.test")


def test_an_app_without_a_verifier_is_told_nothing(tmp_path: Path) -> None:
    assert findings({"LOOM_ENV": "production"}) == []
    assert [finding.code for finding in findings({"LOOM_ENV": "production", "TLSNOTARY_ALLOW_MOCK": "1"})] == [
        "tlsnotary-mock"
    ]


def test_a_verifier_that_could_not_verify_is_told(tmp_path: Path) -> None:
    missing = f"tlsn://{tmp_path}/none.wasm"
    told = findings({"LOOM_TLSNOTARY_URL": missing})
    assert [finding.code for finding in told] == ["tlsnotary-not-ready"] * 2
    test_key = TestNotary().key
    instance = WasmTLSNotaryVerifier(TLSNotaryOptions(notaries=(test_key,), module=Path(__file__)))
    [finding] = findings({}, tlsnotary=instance)
    assert (finding.code, finding.absolute) == ("tlsnotary-test-notary", True)
    (tmp_path / "module.wasm").touch()
    assert findings({"LOOM_TLSNOTARY_URL": f"tlsn://{tmp_path}/module.wasm?notaries={KEY}"}) == []


def test_the_plugin_imports_no_webassembly() -> None:
    code = (
        "import sys, loom_tlsnotary.plugin as p; list(p.loom_register_adapters()); p.loom_guard_rules();"
        "import typer; p.loom_cli_commands(typer.Typer());"
        "print([name for name in sys.modules if name.split('.')[0] in ('wasmtime', 'cryptography')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_port_is_listed_only_where_somebody_chose_it() -> None:
    def listed(environ: dict[str, str]) -> list[str]:
        config = guard_config(load_settings(environ=environ), AdapterRegistry(), environ=environ)
        return [row.port for row in readiness(config, []).ports]

    assert "tlsnotary" not in listed({})
    assert "tlsnotary" in listed({"LOOM_TLSNOTARY_URL": "tlsn://"})


@pytest.mark.parametrize("spec", [WASM, TEST, MOCK], ids=lambda spec: spec.scheme)
def test_the_entry_point_is_found(spec: Any) -> None:
    assert AdapterRegistry().spec("tlsnotary", spec.scheme) == spec
