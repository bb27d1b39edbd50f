"""The plugin: declares the verifiers of this package, its rules and its commands, without importing wasmtime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loom.plugins import AdapterSpec, Durability, Feature, Reach, hookimpl

__all__ = ["MOCK", "TEST", "WASM", "loom_cli_commands", "loom_guard_rules", "loom_register_adapters"]

WASM = AdapterSpec(
    port="tlsnotary",
    scheme="tlsn",
    target="loom_tlsnotary.verifier:WasmTLSNotaryVerifier",
    durability=Durability.NONE,
    reach=Reach.NETWORK,
    distribution="loom-tlsnotary",
    summary="the official tlsn-wasm module in wasmtime; keeps nothing",
)

TEST = AdapterSpec(
    port="tlsnotary",
    scheme="tlsn+test",
    target="loom_tlsnotary.testing.verifier:TestTLSNotaryVerifier",
    durability=Durability.NONE,
    reach=Reach.NETWORK,
    features=frozenset({Feature.TEST_ONLY}),
    distribution="loom-tlsnotary",
    summary="the module with a test authority as a root; for tests",
)

MOCK = AdapterSpec(
    port="tlsnotary",
    scheme="tlsn+mock",
    target="loom_tlsnotary.mock:MockTLSNotaryVerifier",
    durability=Durability.NONE,
    reach=Reach.NETWORK,
    features=frozenset({Feature.TEST_ONLY}),
    distribution="loom-tlsnotary",
    summary="no cryptography at all; for tests",
)


@hookimpl
def loom_register_adapters() -> Iterable[AdapterSpec]:
    """The verifier under ``tlsn://``, and two for tests."""
    return [WASM, TEST, MOCK]


@hookimpl
def loom_guard_rules() -> Iterable[Any]:
    """Rules about mocks, test notaries and verifiers that could not verify."""
    from .guard import tlsnotary_rules

    return tlsnotary_rules()


@hookimpl
def loom_cli_commands(app: Any) -> None:
    """``loom tlsnotary``."""
    from .shell import group

    app.add_typer(group(), name="tlsnotary", rich_help_panel="TLSNotary")
