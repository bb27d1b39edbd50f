"""Installing the module, its compiled form, and the commands."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import wasmtime

from loom.errors import ConfigurationError
from loom.ports import TLSNotaryPolicy
from loom_tlsnotary import MockTLSNotaryVerifier
from loom_tlsnotary.install import install, unpack
from loom_tlsnotary.module import load_module, make_engine, read_module
from loom_tlsnotary.places import cache_folder, installed_path
from loom_tlsnotary.releases import ALPHA_12
from loom_tlsnotary.render import as_json, as_text
from loom_tlsnotary.testing import TestNotary

SMALL = b"(module)"
RESPONSE = b'HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{"balance":42,"b":\x1b1}'


def tarball(wasm: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo("package/tlsn_wasm_bg.wasm")
        entry.size = len(wasm)
        archive.addfile(entry, io.BytesIO(wasm))
    return file.getvalue()


def integrity(data: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_tarball_and_the_module_in_it_are_checked(tmp_path: Path) -> None:
    good = tarball(SMALL)
    release = msgspec.structs.replace(
        ALPHA_12, wasm_sha256=hashlib.sha256(SMALL).hexdigest(), integrity=integrity(good)
    )
    assert unpack(release, good) == SMALL
    with pytest.raises(ConfigurationError, match="the tarball is not that"):
        unpack(release, tarball(SMALL + b" "))
    other = tarball(SMALL + b" ")
    with pytest.raises(ConfigurationError, match="the module in the tarball"):
        unpack(msgspec.structs.replace(release, integrity=integrity(other)), other)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        install(release, tmp_path / "none.tgz")


def test_an_installed_module_is_found_without_being_named(tmp_path: Path) -> None:
    good = tarball(SMALL)
    release = msgspec.structs.replace(
        ALPHA_12, wasm_sha256=hashlib.sha256(SMALL).hexdigest(), integrity=integrity(good)
    )
    (tmp_path / "module.tgz").write_bytes(good)
    place = install(release, tmp_path / "module.tgz")
    assert place == installed_path(release)
    assert read_module(release, None) == SMALL
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_what_was_compiled_once_is_loaded_and_never_trusted_when_others_may_write() -> None:
    wasm = b"\0asm\1\0\0\0"
    engine = make_engine()
    load_module(engine, wasm, "0" * 64)
    [file] = cache_folder().glob("*.cwasm")
    compiled = file.read_bytes()
    load_module(engine, b"this is not read any more", "0" * 64)
    file.write_bytes(b"damaged")
    load_module(engine, wasm, "0" * 64)
    assert file.read_bytes() == compiled
    cache_folder().chmod(0o777)
    with pytest.raises(wasmtime.WasmtimeError):
        load_module(engine, b"this is read again", "0" * 64)


def test_many_starts_at_once_compile_into_one_cache() -> None:
    wasm = b"\0asm\1\0\0\0"
    with ThreadPoolExecutor(8) as threads:
        modules = list(threads.map(lambda _: load_module(make_engine(), wasm, "1" * 64), range(16)))
    assert len(modules) == 16
    assert sorted(path.suffix for path in cache_folder().iterdir()) == [".cwasm", ".lock"]


def loom(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loom.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_verify_prints_what_was_said_with_blocks(
    wasm_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")  # compiled before
    notary = TestNotary()
    (tmp_path / "proof.bin").write_bytes(notary.present(RESPONSE, hide_response=[b"42"]))
    verify = ["tlsnotary", "verify", str(tmp_path / "proof.bin"), "--url", f"tlsn+test://{wasm_path}"]
    shown = loom(*verify, "--server", "example.test", "--notary", str(notary.key))
    assert shown.returncode == 0, shown.stderr
    assert "verified: example.test said this on" in shown.stdout
    assert '{"balance":██,"b":\\x1b1}' in shown.stdout
    told = json.loads(loom(*verify, "--server", "example.test", "--notary", str(notary.key), "--json").stdout)
    assert (told["verified"], told["response"]["status"], told["notary_key"]) == (True, 200, str(notary.key))
    assert told["redacted_ranges"]["received"] == [[50, 52]]
    refused = loom(*verify, "--server", "other.test", "--notary", str(notary.key), "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "tlsnotary.server_name"
    untrusted = loom(*verify, "--server", "example.test", "--notary", str(TestNotary("p256").key))
    assert untrusted.returncode == 1
    assert "tlsnotary.notary" in untrusted.stderr


async def test_a_verdict_is_shown_without_control_characters() -> None:
    mock = MockTLSNotaryVerifier(allow_mock=True)
    at = RESPONSE.index(b"42")
    proof = mock.present(RESPONSE, revealed=[(0, at), (at + 2, len(RESPONSE))])
    verdict = await mock.verify(proof, "example.test", TLSNotaryPolicy())
    text = as_text(verdict)
    assert text.startswith("MOCK: nothing was verified")
    assert '{"balance":██,"b":\\x1b1}' in text
    assert "\x1b" not in text
    told = json.loads(as_json(verdict))
    assert (told["mode"], told["redacted_ranges"]["received"]) == ("mock", [[at, at + 2]])


@pytest.mark.slow
def test_install_fetches_the_package_by_npm(wasm_path: Path) -> None:
    done = loom("tlsnotary", "install", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    place = Path(json.loads(done.stdout)["path"])
    assert place.read_bytes() == wasm_path.read_bytes()
    assert len(list(cache_folder().glob("*.cwasm"))) == 1
