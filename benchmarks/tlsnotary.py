"""TLSNotary proofs: one, many at once, the start of a verifier, and its memory; against the module's own calls."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

import wasmtime

from loom.testing.servers import npm_folder
from loom_tlsnotary import TLSNotaryOptions
from loom_tlsnotary.instance import Instance
from loom_tlsnotary.limits import Limits
from loom_tlsnotary.module import load_module, make_engine
from loom_tlsnotary.releases import ALPHA_12
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier, test_module

from .measure import Figure, temporary_folder

__all__ = ["measure"]

_BODY = b'{"balance":42,"name":"' + b"x" * 1000 + b'"}'
_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY

_ALONE = """
import asyncio, sys, time
from pathlib import Path
from loom_tlsnotary import TLSNotaryOptions
from loom_tlsnotary.testing import TestNotary, TestTLSNotaryVerifier
async def main():
    notary = TestNotary()
    proof = notary.present(Path(sys.argv[2]).read_bytes())
    began = time.perf_counter()
    async with TestTLSNotaryVerifier(TLSNotaryOptions(notaries=(notary.key,), module=Path(sys.argv[1]))) as verifier:
        started = time.perf_counter() - began
        for _ in range(int(sys.argv[3])):
            await verifier.verify(proof, "example.test")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    print(started, pages)
asyncio.run(main())
"""


def _raw(wasm: bytes, proof: bytes, rounds: int) -> float:
    """Median seconds of the calls that verify, in instances that are there already."""
    engine = make_engine()
    module = load_module(engine, wasm, "benchmark")
    times = []
    for _ in range(rounds):
        with Instance(engine, module, ALPHA_12, Limits(), 10**6) as instance:
            exports, store = instance._exports, instance._store
            place = exports["__wbindgen_malloc"](store, len(proof), 1)
            instance._write(place, proof)
            began = time.perf_counter()
            handle, _, failed = exports["presentation_deserialize"](store, place, len(proof))
            _, _, refused = exports["presentation_verify"](store, handle)
            times.append(time.perf_counter() - began)
            assert not failed
            assert not refused
    return statistics.median(times)


async def _verifier(path: Path, proof: bytes, notary: TestNotary, rounds: int) -> tuple[list[float], float]:
    """Sorted seconds of single proofs, and proofs a second with 64 in flight."""
    async with TestTLSNotaryVerifier(TLSNotaryOptions(notaries=(notary.key,), module=path)) as verifier:
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            await verifier.verify(proof, "example.test")
            times.append(time.perf_counter() - began)
        began = time.perf_counter()
        await asyncio.gather(*(verifier.verify(proof, "example.test") for _ in range(64)))
        return sorted(times), 64 / (time.perf_counter() - began)


def _compile(wasm: bytes) -> float:
    began = time.perf_counter()
    wasmtime.Module(make_engine(), wasm)
    return time.perf_counter() - began


def measure(*, quick: bool = False) -> list[Figure]:
    """A proof as a ratio to the module's calls; starting and memory as such."""
    source = Path(__file__).parents[1] / "packages" / "loom-tlsnotary" / "tests" / "node"
    path = npm_folder(source, "tlsn-wasm") / "node_modules" / "tlsn-wasm" / "tlsn_wasm_bg.wasm"
    wasm, notary, rounds = test_module(path.read_bytes()), TestNotary(), 50 if quick else 200
    proof = notary.present(_RESPONSE)
    compiled = _compile(wasm)
    raw = _raw(wasm, proof, rounds)
    times, many = asyncio.run(_verifier(path, proof, notary, rounds))
    with temporary_folder() as folder:
        file = Path(str(folder)) / "response"
        file.write_bytes(_RESPONSE)
        command = [sys.executable, "-c", _ALONE, str(path), str(file), str(rounds)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    median = statistics.median(times)
    return [
        Figure(
            name="a proof (1 KiB transcript)", value=median * 1e3, unit="ms", raw=raw * 1e3,
            raw_name="ms in the module's calls", higher_is_better=False,
            p50_ms=median * 1e3, p99_ms=times[int(len(times) * 0.99)] * 1e3,
        ),
        Figure(name="a proof, absolute", value=median * 1e3, unit="ms", wanted=200, higher_is_better=False),
        Figure(name="proofs, 64 in flight", value=many, unit="/s", raw=1 / raw, raw_name="/s in the module's calls"),
        Figure(name="compiling the module, once", value=compiled, unit="s", wanted=15, higher_is_better=False),
        Figure(name="starting afterwards", value=float(said[0]), unit="s", wanted=1, higher_is_better=False),
        Figure(
            name="resident memory of a process that verifies", value=int(said[1]) * 4096 / 2**20, unit="MiB",
            wanted=120, higher_is_better=False,
        ),
    ]  # fmt: skip
