"""What the README shows works as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from loom import Loom
from loom.errors import FieldNotAuthenticatedError
from loom.ports import TLSNotaryPolicy
from loom_tlsnotary import MockTLSNotaryVerifier
from loom_tlsnotary.testing import TestTLSNotaryVerifier

README = Path(__file__).parents[1] / "README.md"
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"balance":42}'


def snippet(word: str) -> dict[str, Any]:
    """The names that the Python block with ``word`` in it makes."""
    [code] = [
        block for block in re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S) if word in block
    ]
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, str(README), "exec"), names)
    return names


async def test_a_workflow_takes_a_presentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLSNOTARY_ALLOW_MOCK", "true")
    names = snippet("lifespan")
    app = Loom(
        workflows=[names["claim"]], lifespan=names["lifespan"],
        url=f"sqlite:///{tmp_path}/loom.db", urls={"tlsnotary": "tlsn+mock://"}, env="test",
    )  # fmt: skip
    proof = MockTLSNotaryVerifier.present(RESPONSE, server_name="api.example.com")
    async with app:
        run = await app.workflow(names["claim"], "c-1").start(proof)
        assert await run.result(timeout=60) == 42


async def test_the_test_notary_s_presentation(wasm_path: Path) -> None:
    names = snippet("TestNotary(")
    options = names["verifier"].options
    async with TestTLSNotaryVerifier(type(options)(notaries=options.notaries, module=wasm_path)) as verifier:
        verdict = await verifier.verify(
            names["presentation"], "api.example.com", TLSNotaryPolicy(require_fields=("/balance",))
        )
        assert verdict.fields == {"/balance": 42}
        with pytest.raises(FieldNotAuthenticatedError):
            await verifier.verify(names["presentation"], "api.example.com", TLSNotaryPolicy(require_fields=("/name",)))


def test_the_first_snippet_is_python() -> None:
    assert snippet("async def balance")["notary"].algorithm == "secp256k1"
